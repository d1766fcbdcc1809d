"""The run from end to end on digits, with PyTorch and with a stub in its place: what it trains and what it leaves."""
import contextlib
import csv
import io
import json
import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.model.oracle import forward
from vit.training import pipeline
from vit.training import run as flow
from vit.training.recipe import Recipe
from vit.training.traces import history as traces

OPTIONS = {"data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 2, "finetune_epochs": 1,
           "train_steps_per_epoch": 3, "eval_steps_per_epoch": 2, "seed": 7, "log_steps": 0}
EPOCH = {"epoch", "learning_rate", "train_loss", "train_seconds", "step_seconds", "images_per_second", "eval_loss",
         "accuracy", "top5", "eval_seconds"}


def _train_with_torch(folder, **options):
    """A run of vit_torch, and what it printed."""
    import vit_torch
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        results = vit_torch.fastestimator_run(**OPTIONS | {"model_dir": str(folder)} | options)
    return folder, results, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run: pretrain, finetune, from scratch."""
    return _train_with_torch(tmp_path_factory.mktemp("whole"), compare_scratch=True)


# A real run.

def test_run_leaves_exactly_these_files(whole):
    folder, *_ = whole
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "best/finetune_best_accuracy.pt", "best/pretrain_best_accuracy.pt", "best/scratch_best_accuracy.pt",
        *(f"checkpoints/{name}.safetensors" for name in ("finetune-00000003", "pretrain-00000003", "pretrain-00000006",
                                                         "scratch-00000003")),
        "classes.json", "curves.png", "finetuned.safetensors", "history.csv", "predictions.png",
        "pretrained.safetensors", "recipe.yaml", "results.json", "scratch.safetensors", "times.csv"]


def test_results_hold_every_documented_key(whole):
    folder, results, *_ = whole
    assert json.loads((folder / "results.json").read_text()) == results
    assert set(results) == {"backend", "versions", "spec", "recipe", "seed", "pretrained_from", "stages",
                            "images_per_second", "seconds", "weights_sha256"}
    assert results["backend"] == "torch"
    assert set(results["versions"]) >= {"python", "torch", "fastestimator", "numpy"}
    assert results["spec"] == VARIANTS["tiny"].replace(num_classes=10).to_dict()
    given = {name: value for name, value in OPTIONS.items() if name != "log_steps"}
    assert results["recipe"].items() >= given.items()
    assert results["recipe"].items() >= {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}.items()
    assert results["seed"] == 7
    assert results["pretrained_from"] is None
    assert results["seconds"] > 0 and results["images_per_second"] > 0


def test_results_hold_each_stages_epochs(whole):
    _, results, *_ = whole
    assert {name: (stage["data"], [epoch["epoch"] for epoch in stage["epochs"]])
            for name, stage in results["stages"].items()} == {
        "pretrain": ("digits100", [1, 2]), "finetune": ("digits10", [1]), "scratch": ("digits10", [1])}
    for stage in results["stages"].values():
        for epoch in stage["epochs"]:
            assert set(epoch) == EPOCH
            assert 0 <= epoch["accuracy"] <= 1
            assert round(epoch["accuracy"] * 32, 6).is_integer()  # two batches of 16 were looked at
    assert 4 < results["stages"]["pretrain"]["epochs"][0]["train_loss"] < 6  # ln 100 = 4.6
    assert 1.8 < results["stages"]["scratch"]["epochs"][0]["eval_loss"] < 3  # ln 10 = 2.3


def test_fingerprints_are_those_of_the_files(whole):
    folder, results, *_ = whole
    files = {"pretrain": "pretrained", "finetune": "finetuned", "scratch": "scratch"}
    for stage, file in files.items():
        weights, config = canonical.load(folder / f"{file}.safetensors")
        assert results["stages"][stage]["weights_sha256"] == parameters.sha256(weights)
        assert config.num_classes == (100 if stage == "pretrain" else 10)
        assert weights["head.weight"].shape == (config.num_classes, 64)
        assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    assert results["weights_sha256"] == results["stages"]["finetune"]["weights_sha256"]
    assert len({stage["weights_sha256"] for stage in results["stages"].values()}) == 3


def test_training_moves_every_tensor(whole):
    folder, *_ = whole
    weights, config = canonical.load(folder / "pretrained.safetensors")
    start = parameters.initial(config, 7)
    assert [name for name in weights if (weights[name] == start[name]).all()] == []


def test_evaluation_is_the_oracles_over_the_test_images(whole, digits):
    folder, results, *_ = whole
    images = digits.finetune.test
    for name, file in (("finetune", "finetuned"), ("scratch", "scratch")):
        weights, config = canonical.load(folder / f"{file}.safetensors")
        logits = forward(config, weights, (images.images[:32] / 255 - digits.mean) / digits.std)["logits"]
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(32), images.labels[:32]]
        epoch = results["stages"][name]["epochs"][-1]
        assert epoch["accuracy"] == (logits.argmax(axis=1) == images.labels[:32]).mean()
        assert epoch["eval_loss"] == pytest.approx(loss.mean(), abs=1e-5)


def test_training_is_sgd_with_momentum_and_decay_on_the_pipelines_batches(whole, digits):
    """The finetune's three steps again, in plain PyTorch with the update written out."""
    import torch

    import vit_torch
    folder, *_ = whole
    config, recipe = VARIANTS["tiny"].replace(num_classes=10), Recipe(batch_size=16, seed=7)
    start, _ = parameters.copy_encoder(canonical.load(folder / "pretrained.safetensors")[0], parameters.initial(config, 7))
    model = vit_torch.from_numpy(vit_torch.ViT(config), start)
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
    line = pipeline.build(digits.finetune.train, digits.finetune.test, digits, recipe, channels_first=True)
    with line(mode="train", epoch=1, steps_per_epoch=3) as loader:
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for w, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g + 1e-4 * w)
                    w.sub_(0.01 * v)
    ended, _ = canonical.load(folder / "finetuned.safetensors")
    for name, value in vit_torch.to_numpy(model).items():
        np.testing.assert_allclose(ended[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_history_is_the_results_as_two_tables(whole):
    folder, results, *_ = whole
    epochs = [epoch for stage in results["stages"].values() for epoch in stage["epochs"]]
    times = {name for name in EPOCH if name.endswith("seconds") or name == "images_per_second"}
    for name, columns in (("history.csv", EPOCH - times | {"loss_scale", "skipped_steps"}),
                          ("times.csv", times | {"epoch"})):
        with open(folder / name, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["stage"], row["epoch"]) for row in rows] == [("pretrain", "1"), ("pretrain", "2"),
                                                                  ("finetune", "1"), ("scratch", "1")]
        for row, epoch in zip(rows, epochs, strict=True):
            assert set(row) == columns | {"stage"}
            assert {key: float(row[key]) for key in columns & EPOCH} == {key: epoch[key] for key in columns & EPOCH}
            assert row.get("loss_scale", "") == ""


def test_curves_are_an_image(whole):
    folder, *_ = whole
    data = (folder / "curves.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert 600 < width < 4000 and 400 < height < 4000
    import cv2
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (height, width, 3)
    assert 0.5 < (pixels == 255).all(axis=-1).mean() < 0.999


def test_progress_bar_is_silent_where_the_output_is_no_terminal(whole):
    *_, out, err = whole
    assert err == ""
    assert "step/s" not in out and "it/s" not in out


def test_run_ends_with_a_table_and_says_what_was_copied(whole):
    folder, results, out, _ = whole
    table = out[out.rindex("Top-1 accuracy"):]
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["pretrain", "finetune,", "finetune,"]
    assert f"{results['stages']['finetune']['epochs'][-1]['accuracy']:.1%}" in table
    assert str(folder) in table
    assert out.count("encoder copied: 54 tensors, 147,520 values; new: head.weight [10, 64], head.bias [10]") == 1


def test_same_seed_gives_the_same_weights(whole, tmp_path):
    """Without the stage from scratch and with workers: neither may change the finetune."""
    _, results, *_ = _train_with_torch(tmp_path, num_workers=1)
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert set(results["stages"]) == {"pretrain", "finetune"}


def test_an_evaluation_sees_no_image_twice(whole, tmp_path):
    """One of more steps than the set has is one of the whole set."""
    several = {"pretrained": str(whole[0] / "pretrained.safetensors"), "batch_size": 300}
    _, asked, *_ = _train_with_torch(tmp_path / "asked", **several, eval_steps_per_epoch=1000)
    _, every, *_ = _train_with_torch(tmp_path / "every", **several, eval_steps_per_epoch=None)
    [asked], [every] = (results["stages"]["finetune"]["epochs"] for results in (asked, every))
    assert {name: asked[name] for name in ("accuracy", "top5", "eval_loss")} == {
        name: every[name] for name in ("accuracy", "top5", "eval_loss")}


def test_another_seed_gives_other_weights(whole, tmp_path):
    _, results, *_ = _train_with_torch(tmp_path, seed=8, pretrain_epochs=1)
    assert results["weights_sha256"] != whole[1]["weights_sha256"]


def test_pretrained_file_stands_in_for_pretraining(whole, tmp_path):
    file = str(whole[0] / "pretrained.safetensors")
    folder, results, *_ = _train_with_torch(tmp_path, pretrained=file)
    assert set(results["stages"]) == {"finetune"}
    assert results["pretrained_from"] == file
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert not (folder / "pretrained.safetensors").exists()
    assert (folder / "curves.png").stat().st_size > 5000
    assert results["images_per_second"] > 0


def test_a_finished_run_goes_on_for_more_epochs(whole, tmp_path):
    """Ends as one of as many from the start, and what was trained from the shorter pretraining is trained again."""
    _train_with_torch(tmp_path, pretrain_epochs=1)
    _, results, *_ = _train_with_torch(tmp_path, pretrain_epochs=2, resume="auto",
                                       resume_override=["pretrain_epochs=2"])
    assert results["recipe"]["pretrain_epochs"] == 2
    for stage in ("pretrain", "finetune"):
        assert results["stages"][stage]["weights_sha256"] == whole[1]["stages"][stage]["weights_sha256"]
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.superseded")] == [
        "finetune-00000003.safetensors.superseded"]


def test_an_average_may_begin_when_a_run_goes_on(tmp_path):
    """It begins at the weights that are there."""
    _, short, *_ = _train_with_torch(tmp_path, pretrain_epochs=1)
    changes = {"pretrain_epochs": 2, "ema_decay": 0.999999}
    overrides = [f"{name}={value}" for name, value in changes.items()]
    _, results, *_ = _train_with_torch(tmp_path, resume="auto", resume_override=overrides, **changes)
    first, second = results["stages"]["pretrain"]["epochs"]
    assert second["eval_loss"] == pytest.approx(first["eval_loss"], abs=1e-4) and second["train_loss"] > 0
    assert first["eval_loss"] == short["stages"]["pretrain"]["epochs"][0]["eval_loss"]


# The order of things, with a stub instead of a framework.

class Stub:
    """Trains nothing: adds 1 to every weight, and remembers what it was given."""

    def __init__(self, fail_at=None):
        self.given, self.fail_at = [], fail_at

    def train(self, stage, weights):
        self.given.append((stage, {name: value.copy() for name, value in weights.items()}))
        if stage.name == self.fail_at:
            raise RuntimeError("the power went")
        stage.history.epochs += [{"epoch": i + 1, "train_loss": 2.0, "train_seconds": 1.0, "images_per_second": 5.0,
                                  "eval_loss": 2.5, "accuracy": 0.5, "eval_seconds": 1.0} for i in range(stage.epochs)]
        return {name: value + 1 for name, value in weights.items()}

    def run(self, folder, **options):
        return flow.run("stub", lambda job: flow.pretrain(job, self.train),
                        lambda job, weights: flow.finetune(job, self.train, weights), None,
                        **OPTIONS | {"model_dir": str(folder)} | options)


def test_finetune_starts_from_the_pretrained_encoder_under_a_new_head(tmp_path):
    stub = Stub()
    stub.run(tmp_path, compare_scratch=True)
    (pretrain, start), (finetune, copied), (scratch, fresh) = stub.given
    assert [stage.name for stage in (pretrain, finetune, scratch)] == ["pretrain", "finetune", "scratch"]
    assert [stage.epochs for stage in (pretrain, finetune, scratch)] == [2, 1, 1]
    assert (pretrain.config.num_classes, finetune.config.num_classes, scratch.config.num_classes) == (100, 10, 10)
    for name, value in start.items():
        if name.startswith("head."):
            assert (copied[name] == fresh[name]).all() and len(copied[name]) == 10, name
        else:
            assert (copied[name] == value + 1).all(), name
            assert (fresh[name] == value).all(), name


def test_initial_weights_are_the_seeds(tmp_path):
    stub = Stub()
    stub.run(tmp_path)
    wanted = parameters.initial(VARIANTS["tiny"], 7)
    assert parameters.sha256(stub.given[0][1]) == parameters.sha256(wanted)


def test_pretrained_file_is_what_the_finetune_starts_from(tmp_path):
    file = tmp_path / "some.safetensors"
    weights = {name: value + 0.25 for name, value in parameters.initial(VARIANTS["tiny"], 1).items()}
    canonical.save(file, weights, VARIANTS["tiny"])
    stub = Stub()
    results = stub.run(tmp_path / "run", pretrained=str(file))
    [(stage, given)] = stub.given
    assert stage.name == "finetune"
    assert all((given[name] == weights[name]).all() for name in given if not name.startswith("head."))
    assert results["pretrained_from"] == str(file)


def test_the_side_must_fit_the_files_model_and_not_a_variant_that_nobody_chose(tmp_path, refused):
    """The default variant's patches of 4 do not divide 35."""
    config = VARIANTS["tiny"].replace(patch_size=7, image_size=35)
    canonical.save(tmp_path / "w", parameters.initial(config, 1), config)
    options = {name: value for name, value in OPTIONS.items() if name != "variant"} | {"pretrained": tmp_path / "w"}
    stub = Stub()
    flow.run("stub", None, lambda job, weights: flow.finetune(job, stub.train, weights), None,
             model_dir=str(tmp_path / "run"), image_size=35, **options)
    assert stub.given[0][0].config.image_size == 35
    with refused("image_size 36", "patch_size 7"):
        flow.run("stub", None, None, None, model_dir=str(tmp_path / "no"), image_size=36, **options)
    assert not (tmp_path / "no").exists()


def test_pretrained_file_may_be_a_path(tmp_path):
    canonical.save(tmp_path / "w", parameters.initial(VARIANTS["tiny"], 1), VARIANTS["tiny"])
    results = Stub().run(tmp_path / "run", pretrained=tmp_path / "w")
    assert results["pretrained_from"] == str(tmp_path / "w")


def test_results_are_there_only_after_a_whole_run(tmp_path):
    with pytest.raises(RuntimeError, match="the power went"):
        Stub(fail_at="finetune").run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.json", "pretrained.safetensors", "recipe.yaml"]


def test_results_of_an_earlier_run_do_not_outlive_a_broken_one(tmp_path):
    Stub().run(tmp_path)
    with pytest.raises(RuntimeError, match="the power went"):
        Stub(fail_at="finetune").run(tmp_path, seed=8)
    assert not (tmp_path / "results.json").exists()


def test_results_are_valid_json_even_when_the_loss_is_no_number(tmp_path):
    stub = Stub()
    train = stub.train

    def diverge(stage, weights):
        weights = train(stage, weights)
        stage.history.epochs[-1] |= {"train_loss": float("nan"), "eval_loss": float("inf")}
        return weights

    stub.train = diverge
    stub.run(tmp_path)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)


def test_checkpoints_of_an_earlier_run_are_out_of_the_way_of_a_new_one(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "pretrain-00003130.safetensors").write_bytes(b"old")
    Stub().run(tmp_path)
    assert "earlier run are now in checkpoints.old" in capsys.readouterr().out
    assert (tmp_path / "checkpoints.old" / "pretrain-00003130.safetensors").read_bytes() == b"old"
    assert not (tmp_path / "checkpoints").exists()


def test_runs_of_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flow.time, "strftime", lambda _: "now")
    for _ in range(3):
        Stub().run(None, model_dir=None)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["now-stub", "now-stub-2", "now-stub-3"]


def test_a_run_uses_one_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    Stub().run(tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_default_folder_names_the_time_and_the_backend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Stub().run(None, model_dir=None)
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-stub")
    assert (folder / "results.json").is_file()


@pytest.mark.parametrize(("option", "fragments"), [
    ({"variant": "huge"}, ("huge", "tiny", "apphub")), ({"data": "mnist"}, ("mnist", "digits")),
    ({"colour": 1}, ("colour", )), ({"num_workers": -1}, ("num_workers", "-1")), ({"log_steps": -1}, ("log_steps",)),
    ({"batch_size": 0}, ("batch_size", "0")), ({"seed": -1}, ("seed", "-1")),
    ({"accumulate_steps": 4}, ("accumulate_steps", "3, the steps of the finetune", "4")),
    ({"batch_size": 10**399}, ("batch_size", "at most")), ({"cutout_size": 40}, ("cutout_size", "(32)", "40")),
])
def test_bad_option_writes_nothing(tmp_path, refused, option, fragments):
    with refused(*fragments):
        Stub().run(tmp_path / "run", **option)
    assert not (tmp_path / "run").exists()


# The traces.

# All that the traces ask of a model.
MODEL = SimpleNamespace(current_optimizer=SimpleNamespace(norm=np.float32(0.25)))


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(_Terminal, True), (io.StringIO, False)])
def test_progress_bar_shows_the_time_left_on_a_terminal(stream, shown):
    *_, progress = traces.build(traces.History(), MODEL, 2, epochs=3, title="pretrain", rate=lambda step: 0.5)
    progress.system = SimpleNamespace(epoch_idx=1, global_step=None)
    err = stream()
    with contextlib.redirect_stderr(err):
        progress.on_begin(None)
        for step in (4, 5, 6):  # resumed after three
            progress.system.global_step = step
            progress.on_batch_end({"ce": np.float32(0.5)})
        progress.on_end(None)
    assert (err.getvalue() != "") is shown
    if shown:
        assert "pretrain: 100%" in err.getvalue() and "6/6" in err.getvalue() and "loss=0.500" in err.getvalue()


def _two_batches(history, tensorboard=None):
    """One epoch of two batches, the second with less weight."""
    rng = np.random.default_rng(0)
    train, evaluate, _ = traces.build(history, MODEL, 2, 7, "pretrain", lambda step: step / 100, tensorboard)
    for trace in (train, evaluate):
        trace.system = SimpleNamespace(epoch_idx=4, global_step=8)
        trace.on_epoch_begin({})
        for loss, size in ((1.0, 30), (5.0, 10)):
            trace.on_batch_end({"ce": loss, "y": np.zeros(size, int), "y_pred": rng.normal(size=(size, 10))})
        trace.on_epoch_end({"accuracy": 0.75})
        trace.on_end({})


def test_top_five_counts_labels_among_the_five_highest():
    logits = np.arange(70.0).reshape(7, 10)
    assert [traces.top(logits, np.full(7, label)) for label in (9, 5, 4, 0)] == [7, 7, 0, 0]
    assert traces.top(logits[:, :3], np.zeros(7, int)) == 7
    assert traces.top(logits * np.nan, np.zeros(7, int)) == 0


def test_log_line_says_everything(capsys):
    history = traces.History()
    _two_batches(history)
    out = capsys.readouterr().out
    [epoch] = history.epochs
    assert out == traces.line(epoch, "pretrain: epoch", 7) + "\n"
    parts = ("pretrain: epoch 4/7: ", " ms a step, ", " images/s, ", "rate 8.00e-02, ", "loss 2.0000 | test: ",
             "loss 2.0000, ", "top-1 75.00%, ", f"top-5 {epoch['top5']:.2%}, ")
    assert [out.find(part) for part in parts] == sorted(out.find(part) for part in parts)
    assert all(part in out for part in parts), out


def test_log_line_of_one_step_has_no_speed():
    epoch = {"epoch": 1, "train_seconds": 1.0, "step_seconds": None, "images_per_second": None, "learning_rate": 0.1,
             "train_loss": 2.0, "eval_loss": 3.0, "accuracy": 0.5, "top5": 1.0, "eval_seconds": 2.0}
    assert traces.line(epoch, "scratch: epoch", 3) == ("scratch: epoch 1/3: 1.0 s, rate 1.00e-01, loss 2.0000 | test: "
                                                       "loss 3.0000, top-1 50.00%, top-5 100.00%, 2.0 s")


def test_tensorboard_gets_every_number_of_an_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    history = traces.History()
    _two_batches(history, tmp_path / "pretrain")
    [epoch] = history.epochs
    [file] = (tmp_path / "pretrain").iterdir()
    events = EventAccumulator(str(file)).Reload()
    assert set(events.Tags()["scalars"]) == EPOCH - {"epoch"}
    for name in EPOCH - {"epoch"}:
        [scalar] = events.Scalars(name)
        assert (scalar.step, scalar.value) == (8, pytest.approx(epoch[name]))


def test_mean_loss_weighs_batches_by_their_size():
    history = traces.History()
    _two_batches(history)
    [epoch] = history.epochs
    assert (epoch["epoch"], epoch["train_loss"], epoch["eval_loss"], epoch["accuracy"]) == (4, 2.0, 2.0, 0.75)
    assert history.step_losses == [1.0, 5.0]
    assert history.gradient_norms == [0.25, 0.25]
    assert set(epoch) == EPOCH
