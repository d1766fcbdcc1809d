"""The Trainer: its runs are the scripts' runs, its figures are the runs' own, and it says in one line what is wrong."""
import json

import numpy as np
import pytest
from PIL import Image

from tests.data import hugging_face as hf
from vit import hub
from vit.data import arrays
from vit.errors import UserError
from vit.training import run
from vit.use.classifier import Classifier
from vit.use.evaluation import evaluate

FIELDS = {"batch_size": 32, "finetune_epochs": 3, "optimizer": "adamw", "learning_rate": 2e-3, "log_steps": 0,
          "hflip_prob": 0.0, "cutout_size": 0, "val_fraction": 0.2, "quiet": True, "seed": 5}


@pytest.fixture(scope="module")
def sets(digits):
    """Images to train on, with their classes, and images to test on."""
    train, test = digits.finetune.train, digits.finetune.test
    return ({"images": train.images[:400], "labels": train.labels[:400], "classes": digits.finetune.classes},
            (test.images[:90], test.labels[:90]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sets):
    """A trainer that has trained, and what it gave."""
    trainer = hub.Trainer("tiny", *sets, backend="torch", model_dir=tmp_path_factory.mktemp("run"), **FIELDS)
    return trainer, trainer.train()


@pytest.mark.backend("torch")
def test_its_run_is_the_scripts(trained, sets, tmp_path):
    """The same sets in a file, by flags."""
    import vit_torch
    from vit.cli.train import main
    np.savez(tmp_path / "set.npz", train_images=sets[0]["images"], train_labels=sets[0]["labels"],
             classes=sets[0]["classes"], test_images=sets[1][0], test_labels=sets[1][1])
    flags = [text for name, value in FIELDS.items() if name in ("batch_size", "finetune_epochs", "learning_rate",
                                                                "val_fraction", "seed")
             for text in (f"--{name}", str(value))]
    main(vit_torch, ["--data", "arrays", "--data_dir", str(tmp_path / "set.npz"), "--variant", "tiny", "--model_dir",
                     str(tmp_path / "run"), "--quiet", *flags, "--set", "optimizer=adamw", "--set", "hflip_prob=0",
                     "--set", "cutout_size=0"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["weights_sha256"] == trained[1]["weights_sha256"]
    assert results["stages"]["scratch"]["test"] == trained[1]["stages"]["scratch"]["test"]


@pytest.mark.backend("torch")
def test_the_best_epoch_is_chosen_by_some_images_and_tested_on_others(trained, sets):
    trainer, results = trained
    stage = results["stages"]["scratch"]
    assert stage["images"] == {"train": 321, "validation": 79, "test": 90}
    assert stage["epochs_evaluated_on"] == "validation"
    accuracies = [epoch["accuracy"] for epoch in stage["epochs"]]
    assert all(79 * one == pytest.approx(round(79 * one)) for one in accuracies)
    best = accuracies.index(max(accuracies)) + 1
    tested = stage["test"]
    assert (tested["weights"], tested["epoch"]) == ("best/scratch_best_accuracy.safetensors", best)
    model = Classifier(trainer.model_dir / tested["weights"], "torch")
    found = evaluate(model, arrays.labelled(sets[1], model.classes, "the test images")).result()
    assert (tested["images"], tested["accuracy"], tested["top5"]) == (90, found["top1"], found["top5"])
    assert tested["loss"] == pytest.approx(found["loss"], rel=1e-5)
    text = (trainer.model_dir / "train.log").read_text()
    assert "321 training, 79 validation, 90 test images" in text
    assert "| validation: loss" in text and "| test:" not in text
    assert "Top-1 accuracy on the validation images" in text and "best, on test" in text
    assert text.rstrip().splitlines()[-4].endswith(f"{tested['accuracy']:.1%}")


@pytest.mark.backend("torch")
def test_it_evaluates_and_predicts_with_what_it_trained(trained, sets):
    trainer, results = trained
    last = results["stages"]["scratch"]["epochs"][-1]
    found = trainer.evaluate()
    assert (found["images"], found["top1"], found["top5"]) == (79, last["accuracy"], last["top5"])
    assert found["loss"] == pytest.approx(last["eval_loss"], rel=1e-5)
    assert trainer.evaluate(sets[1])["images"] == 90
    images = sets[1][0][:3]
    assert trainer.predict(images, top_k=2) == hub.pipeline("image_classification", trainer.model_dir)(images, top_k=2)
    assert trainer.predict(images[0], top_k=1)[0]["label"] in "0123456789"


@pytest.mark.backend("torch")
def test_before_it_trains_it_evaluates_what_it_was_given(trained, sets, tmp_path, refused):
    folder = trained[0].model_dir
    expected = trained[0].evaluate(sets[1])
    fewer = [(images, labels % 5) for images, labels in ((sets[0]["images"], sets[0]["labels"]), sets[1])]
    for model in (folder, hub.from_pretrained(str(folder), "torch")):
        again = hub.Trainer(model, *sets, model_dir=tmp_path)
        assert again.evaluate() == again.evaluate(sets[1]) == expected
        assert again.predict(sets[1][0][:3]) == trained[0].predict(sets[1][0][:3])
        with refused(str(folder) if model is folder else "the given model", "has 10 classes", "has 5"):
            hub.Trainer(model, *fewer, model_dir=tmp_path).evaluate()


@pytest.mark.backend("torch")
def test_a_trainer_of_a_folder_with_a_run_goes_on_with_it(trained, sets, refused):
    folder, results = trained[0].model_dir, trained[1]
    again = hub.Trainer("tiny", *sets, model_dir=folder, **FIELDS)
    assert again.evaluate() == trained[0].evaluate()
    with refused("of another run"):
        again.train()
    with refused("other data", "training images: other labels"):
        other = sets[0] | {"labels": np.roll(sets[0]["labels"], 1)}
        hub.Trainer("tiny", other, sets[1], model_dir=folder, **FIELDS).train(resume=True)
    with refused("another recipe", "val_fraction is 0.2 there and 0.1 here"):
        hub.Trainer("tiny", *sets, model_dir=folder, **FIELDS | {"val_fraction": 0.1}).train(resume=True)
    with refused("trained on images", "set apart"):
        again.train(resume=True, resume_override=["seed=6"])
    more = again.train(resume=True)
    assert more["weights_sha256"] == results["weights_sha256"]


@pytest.mark.backend("torch")
def test_without_a_folder_one_is_made_and_none_is_left_after_bad_input(sets, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    asked = []

    def stand_in(script, **given):
        asked.append(given)
        raise UserError("something is wrong")

    monkeypatch.setattr(run, "run", stand_in)
    import vit_torch
    monkeypatch.setattr(vit_torch, "run", stand_in)
    trainer = hub.Trainer("tiny", *sets)
    with refused("something is wrong"):
        trainer.train()
    assert trainer.model_dir is None and list((tmp_path / "runs").iterdir()) == []
    assert str(asked[0]["model_dir"]).startswith("runs/") and str(asked[0]["model_dir"]).endswith("-torch")


@pytest.mark.backend("torch")
def test_a_dataset_of_hugging_face_with_images_of_many_sizes_is_trained_on(tmp_path, sets):
    rows = [{"image": Image.fromarray(pixels[:, :20 + index % 12]), "label": int(label)} for index, (pixels, label) in
            enumerate(zip(sets[0]["images"][:120], sets[0]["labels"][:120], strict=True))]
    train = hf.Dataset(rows, {"image": hf.Image(), "label": hf.ClassLabel(list("0123456789"))})
    asked = {**FIELDS, "image_size": 16, "finetune_epochs": 1, "num_workers": 1, "seed": 6}
    trainer = hub.Trainer("tiny", train, model_dir=tmp_path / "run", **asked)
    stage = trainer.train()["stages"]["scratch"]
    assert stage["test"] is None and stage["images"]["test"] == 0 and stage["images"]["validation"] >= 20
    assert trainer.evaluate()["top1"] == stage["epochs"][-1]["accuracy"]
    assert trainer.predict(rows[0]["image"], top_k=1)[0]["label"] in "0123456789"


@pytest.mark.parametrize(("given", "options"), [
    (("tiny", "digits"), {"variant": "tiny", "data": "digits"}),
    (("w.safetensors", "photos"), {"pretrained": "w.safetensors", "data": "folder", "data_dir": "photos"}),
    ((None, "set.npz"), {"data": "arrays", "data_dir": "set.npz"}), ((None, (1, 2)), {"train_dataset": (1, 2)}),
    ((None, (1, 2), (3, 4)), {"train_dataset": (1, 2), "eval_dataset": (3, 4)}), ((), {}),
    ((None, None, None, "small_data"), {"recipe": "small_data"})])
def test_arguments_are_the_scripts_options(given, options):
    assert hub.Trainer(*given).options == options


@pytest.mark.parametrize(("arguments", "options", "fragments"), [
    (("tiny",), {"variant": "tiny"}, ("variant", "twice")), (("tiny", "digits", (1, 2)), {}, ("eval_dataset",)),
    (("tiny",), {"epochs": 3}, ("unknown option 'epochs'",)), ((3,), {}, ("pretrained", "3")),
    (("tiny", None, (1, 2)), {}, ("eval_dataset needs train_dataset",)),
    (("tiny", (1, 2)), {"data": "digits"}, ("train_dataset", "digits"))])
def test_bad_arguments_are_one_line(arguments, options, fragments, refused):
    with refused(*fragments):
        hub.Trainer(*arguments, **options)


@pytest.mark.backend("torch")
def test_what_cannot_be_done_yet_is_one_line(refused, tmp_path):
    trainer = hub.Trainer("tiny", "digits", model_dir=tmp_path)
    for what in (trainer.evaluate, lambda: trainer.predict([])):
        with refused("train() first"):
            what()
    with refused("model_dir"):
        hub.Trainer("tiny", "digits").train(resume=True)
    with refused("jax", "torch, tf, ms"):
        hub.Trainer("tiny", "digits", backend="jax").train()


@pytest.mark.full
@pytest.mark.backend("torch", "tf", "ms")
def test_the_same_epochs_and_the_same_answers_in_every_framework(sets, tmp_path):
    """It ends early, after the same epoch."""
    found = {}
    for backend in ("torch", "tf", "ms"):
        trainer = hub.Trainer("tiny", *sets, backend=backend, model_dir=tmp_path / backend,
                              **FIELDS | {"finetune_epochs": 9, "early_stopping_patience": 1, "learning_rate": 5e-3})
        stage = trainer.train()["stages"]["scratch"]
        predictions = trainer.predict(sets[1][0][:5], top_k=1)
        found[backend] = ([epoch["accuracy"] for epoch in stage["epochs"]], stage["stopped_early"],
                          stage["test"]["epoch"], stage["test"]["accuracy"], trainer.evaluate()["top1"],
                          [likeliest["label"] for likeliest, in predictions])
    assert found["torch"][1] and len(found["torch"][0]) < 9
    assert found["torch"] == found["tf"] == found["ms"]
