"""The story of a run: read, pretrain, copy the encoder, finetune, write the results."""
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fe_compat import quiet_stderr

from vit import memory
from vit.backend import TITLES
from vit.checkpoints import Checkpoint, checkpoint_name, set_aside
from vit.data import DataPair, Dataset, fingerprint, load, splitting
from vit.errors import UserError
from vit.files import canonical
from vit.files.atomic import write_whole
from vit.model import parameters, precision
from vit.model.config import VARIANTS
from vit.model.parameters import Weights
from vit.training import footprint, ignored, mirror, recipe_file, resume, stretches, testing, train, usage, workers
from vit.training.history import History
from vit.training.job import Job, Stage
from vit.training.mirror import Mirror
from vit.training.options import RunOptions, split
from vit.training.pretrained import FILE as START
from vit.training.pretrained import read as read_pretrained
from vit.training.recipe import Recipe
from vit.training.report import folder, header, results
from vit.training.report.log import Log, say
from vit.training.resume import Resume
from vit.training.workers import World


def run(script: ModuleType, **given) -> dict:
    """Pretrain (or read a file), copy the encoder, finetune, and write the results.

    Where the data has no set to pretrain on, the finetune is all, from a file or from scratch.

    Args:
        script: The module of the script: `vit_torch`, `vit_tf` or `vit_ms`.
        given: Fields of `RunOptions` and of `Recipe`.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: Bad input; nothing was written.
    """
    options, fields = split(given)
    joined = workers.joined(script, options.device_target, options.reduce, options.dist_timeout)
    with joined as world, contextlib.ExitStack() as held:
        log = held.enter_context(Log(options.quiet)) if world.first else None
        with world.together():
            options, copied = held.enter_context(mirror.staged(options))
        return _run(script, options, fields, world, copied, log)


def _run(script: ModuleType, options: RunOptions, fields: dict, world: World, copied: Mirror | None,
         log: Log | None) -> dict:
    started = time.perf_counter()
    # The first worker begins alone, so that what must be downloaded is there for the others.
    for turn in (True,) if world.alone else (True, False):
        with world.together():
            if world.first is turn:
                job, found, weights = _ready(script, options, fields, world, copied)
    options, job.mirror = job.options, copied
    if not world.alone:
        world.agree(_facts(job, weights))
    with contextlib.ExitStack() as held:
        with world.together():
            if world.first:
                held.enter_context(_own_folder(job, found))
                log.open(job.model_dir, copied)
                held.push(log.end)
        if not world.alone:
            job.model_dir = Path(world.gather_texts(str(job.model_dir))[0])
            world.watch.to_go_on = f"the same command with --resume auto --model_dir {job.mirror or job.model_dir}"
        if weights is not None and not isinstance(options.pretrained, str):
            # The run can be resumed without the model.
            options = job.options = replace(options, pretrained=job.shown(job.model_dir / START))
            if world.first:
                canonical.save(job.model_dir / START, weights, job.base)
        job.started_with = {name: getattr(options, name) for name in resume.STARTED_WITH}
        if world.first:
            write_whole(job.model_dir / "recipe.yaml", recipe_file.dump(job.recipe).encode())
            write_whole(job.model_dir / "classes.json",
                        json.dumps(job.data.finetune.classes, ensure_ascii=False, indent=0).encode())
        header.tell(job, _plan(job, weights is not None))
        if weights is None and job.data.pretrain is not None:
            weights = pretrain(job)
        finetune(job, weights)
        if options.compare_scratch and weights is not None:
            finetune(job, None)
        for stage in job.stages:
            stage.tested = testing.test(stage)
        return results.write(job, time.perf_counter() - started)


def _plan(job: Job, begun: bool) -> dict[str, tuple[Dataset, int]]:
    """The stages of a run in their order, each with its set and its epochs.

    Args:
        job: The run.
        begun: Whether there are weights to finetune already.
    """
    pair, recipe = job.data, job.recipe
    stages = {} if begun or pair.pretrain is None else {"pretrain": (pair.pretrain, recipe.pretrain_epochs)}
    if stages and recipe.mae_epochs:
        stages = {"mae": (pair.pretrain, recipe.mae_epochs), **stages}
    names = ["finetune" if begun or stages else "scratch"]
    if job.options.compare_scratch and names[0] == "finetune":
        names.append("scratch")
    return stages | dict.fromkeys(names, (pair.finetune, recipe.finetune_epochs))


def _ready(script: ModuleType, options: RunOptions, fields: dict, world: World,
           copied: Mirror | None) -> tuple[Job, Resume | None, Weights]:
    """Read and check all that a run needs, and write nothing: its job, what it goes on from, what it starts from."""
    found = None
    if options.resume is not None:
        found = resume.find(options, fields, copied)
        options, fields = (found.options, found.recipe) if found else (options, fields)
    job = prepare(script, options, fields)
    job.world = world
    job.saves_checkpoints, job.checkpoints = True, found.checkpoints if found else {}
    if found is not None:
        _check_resumed(job)
    # A stopped run's file was held to the variant when the run began.
    chosen = found is None and (options.recipe is not None or "variant" in fields)
    weights = _read_pretrained(job, VARIANTS[job.recipe.variant] if chosen else None)
    pretrains = weights is None and job.data.pretrain is not None
    _check_updates(job, pretrains)
    footprint.check(job, {name: dataset for name, (dataset, _) in _plan(job, weights is not None).items()})
    script.backend.load_fastestimator()  # what keeps it from loading must show before a folder is made
    memory.check_shared()
    if options.tensorboard and world.first:
        folder.probe(Path(options.tensorboard), "tensorboard")
    ignored.tell(replace(options, resume=found and options.resume), job.recipe, fields, job.backend, world.size)
    return job, found, weights


@contextlib.contextmanager
def _own_folder(job: Job, found: Resume | None) -> Iterator[None]:
    """Keep the run's folder to itself, in order."""
    if job.options.model_dir is None:
        job.model_dir = folder.unused(job.model_dir)
    resuming, overwrite = job.options.resume is not None, job.options.overwrite
    elsewhere = job.mirror.owned(resuming, overwrite) if job.mirror else contextlib.nullcontext()
    with elsewhere, folder.own_folder(job.model_dir, resuming=resuming, overwrite=overwrite):
        if found is not None:
            found.set_aside()
        yield


def _facts(job: Job, weights: Weights | None) -> dict[str, object]:
    """What all workers of a run must have in common."""
    options = {name: getattr(job.options, name) for name in (
        "on_nan", "compare_scratch", "compile", "activation_checkpointing", "checkpoint_every", "resume_override",
        "reduce", "dist_timeout", "overwrite")}
    return {"a script": job.backend, "code": workers.code(), "versions": stretches.versions(),
            "a recipe": job.recipe.to_dict(), "options": options, "data": job.fingerprint,
            "pretrained weights": weights and parameters.sha256(weights),
            "initial weights": _drawn(job),
            "checkpoints": {name: [one.phase, one.step, parameters.sha256(one.weights)]
                            for name, one in job.checkpoints.items()}}


def _drawn(job: Job) -> str | None:
    """A fingerprint of initial weights whose last bits are a library's, and so might be others on another machine."""
    if job.recipe.initialization == "xavier":
        return None
    config = job.config(job.data.pretrain or job.data.finetune)
    return parameters.sha256(parameters.initial(config, job.recipe.seed, job.recipe.initialization))


def prepare(script: ModuleType, options: RunOptions, fields: dict) -> Job:
    """Check what a run was asked for, choose its device and read its data; write nothing.

    Args:
        script: The module of the script.
        options: What was asked for beside the recipe.
        fields: Fields of `Recipe`; they override those of the options' recipe.

    Raises:
        UserError: Bad input.
    """
    starts_from_file = options.pretrained is not None  # then the file's model counts, and not the recipe's variant
    recipe = recipe_file.build(options.recipe, not starts_from_file, **fields)
    script.backend.use_device(options.device_target)
    if not script.backend.on_accelerator():
        memory.keep_freed()
    recipe = replace(recipe, precision=_precision(script, recipe.precision))
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{script.backend.NAME}"
    whole = read(recipe, options)
    data = splitting.apart(whole, recipe.val_fraction, recipe.seed)
    job = Job(script, recipe, data, Path(options.model_dir or f"runs/{name}"), options,
              fingerprint=fingerprint.fingerprint(whole))
    for dataset in filter(None, (data.pretrain, data.finetune)) if not starts_from_file else ():
        job.config(dataset)
    return job


def read(recipe: Recipe, options: RunOptions) -> DataPair:
    """Read a run's sets, of which nothing is set apart yet.

    Raises:
        UserError: One cannot be read, or has nothing to evaluate on.
    """
    return load(recipe.data, options.data_dir, options.skip_bad_images, (options.train_dataset, options.eval_dataset),
                untested=recipe.val_fraction > 0)


def pretrain(job: Job) -> Weights:
    """Train on the many-class set, from the seed's initial weights or, where the recipe has epochs of one, a masked
    autoencoder's encoder; write `pretrained.safetensors`."""
    encoder = None
    if job.recipe.mae_epochs:
        stage = job.stage("mae", job.data.pretrain, job.recipe.mae_epochs)
        encoder = _train(stage, _initial(stage), None)
    stage = job.stage("pretrain", job.data.pretrain, job.recipe.pretrain_epochs)
    weights = _initial(stage)
    if encoder is not None:
        weights, report = parameters.copy_encoder(encoder, weights)
        say(str(report))
    return _train(stage, weights, "pretrained.safetensors")


def finetune(job: Job, pretrained: Weights | None) -> Weights:
    """Train on the few-class set, from a pretrained encoder under a new head or, without one, from scratch.

    Writes `finetuned.safetensors` or `scratch.safetensors`.
    """
    stage = job.stage("scratch" if pretrained is None else "finetune", job.data.finetune, job.recipe.finetune_epochs)
    weights = _initial(stage)
    if pretrained is None:
        return _train(stage, weights, "scratch.safetensors")
    weights, report = parameters.copy_encoder(pretrained, weights)
    say(str(report))
    return _train(stage, weights, "finetuned.safetensors")


def _initial(stage: Stage) -> Weights:
    return parameters.initial(stage.config, stage.job.recipe.seed, stage.job.recipe.initialization)


def _train(stage: Stage, weights: Weights, file: str | None) -> Weights:
    """Train from `weights`, or from the stage's checkpoint; a stage that was finished is not trained again.

    What it ends with goes into a file of the run's folder, if that is named.
    """
    job, checkpoint = stage.job, stage.job.checkpoints.get(stage.name)
    finished = checkpoint is not None and checkpoint.phase == "finished"
    if _is_over(job, checkpoint, stage.epochs):
        checkpoint.refill(stage.history)
        stage.weights = checkpoint.ema or checkpoint.weights
    else:
        if finished and stage.name in ("mae", "pretrain"):
            # More epochs are asked for: what was trained from it was trained from less.
            checkpoints = job.model_dir / "checkpoints"
            if job.world.first:
                set_aside(checkpoints, checkpoints / checkpoint_name(stage.name, checkpoint.step))
            job.checkpoints = dict(itertools.takewhile(lambda one: one[0] != stage.name, job.checkpoints.items()))
            job.checkpoints[stage.name] = checkpoint
        stretches.begin(stage)
        try:
            stage.weights = train.fit(stage, weights)
        finally:
            if stage.saver is not None:
                stage.saver.close()
    if spoilt := parameters.not_finite(stage.weights):
        spoilt_file = f"{file} is not written" if file else "it gives no encoder"
        raise UserError(f"{stage.name} has diverged: {spoilt[0]} holds values that are not finite, so {spoilt_file}; "
                        f"{stage.last_checkpoint()}. A lower learning_rate or a longer warm-up may help")
    if file and job.world.first:
        canonical.save(job.model_dir / file, stage.weights, stage.config,
                       usage.of(stage, stage.history.epochs[-1]["accuracy"]))
    return stage.weights


def _is_over(job: Job, checkpoint: Checkpoint | None, epochs: int) -> bool:
    """Whether a stage of so many epochs has nothing left to train: it has come to its end, or to an early one."""
    if checkpoint is None or checkpoint.phase not in ("evaluated", "finished"):
        return False
    history = History()
    checkpoint.refill(history)
    ended = checkpoint.phase == "finished" and checkpoint.epoch >= epochs
    return ended or job.stops_early(history.epochs, epochs)


def _read_pretrained(job: Job, expected) -> Weights | None:
    """Read the file that the run starts from, if there is one; its model takes the place of the recipe's variant."""
    if job.options.pretrained is None:
        if job.data.pretrain is None and job.recipe.freeze_encoder:
            raise UserError("freeze_encoder needs --pretrained: an encoder from scratch must be trained")
        return None
    image_size = job.recipe.image_size or job.data.finetune.train.image_size
    weights, job.base = read_pretrained(job.options.pretrained, image_size, expected)
    job.config(job.data.finetune)
    return weights


def _check_resumed(job: Job) -> None:
    """Refuse to go on with other images than the run began with, or with changes that no step would be trained with."""
    last = list(job.checkpoints.values())[-1]
    job.stretches = stretches.before(last)
    if last.data is not None and (change := fingerprint.difference(last.data, job.fingerprint)):
        raise UserError(f"the run to resume has other data: {change}; give it the data that it began with, or begin "
                        "a new run")
    planned = _plan(job, job.options.pretrained is not None)
    finished = all(_is_over(job, job.checkpoints.get(name), epochs) for name, (_, epochs) in planned.items())
    if finished and job.options.resume_override:
        raise UserError(f"the run is finished: no step would be trained with {', '.join(job.options.resume_override)}; "
                        "ask for more epochs (--resume_override finetune_epochs=N), or begin a new run")


def _precision(script: ModuleType, wanted: str) -> str:
    """Choose the precision, and refuse one whose products the framework, on the device that it has, cannot compute."""
    automatic, wanted = wanted == "auto", "bf16" if wanted == "auto" else wanted
    dtype = precision.dtype_names("float32", wanted).products
    if dtype == "float32":
        return wanted
    with quiet_stderr(show_on_failure=False):
        supported = script.backend.supports_dtype(dtype)
        emulated = wanted == "bf16" and not script.backend.multiplies_bfloat16()
    if automatic:
        chosen = "bf16" if supported and not emulated else "fp32"
        print(f"precision: {chosen}, as this device {'multiplies' if chosen == 'bf16' else 'does not multiply'} bf16",
              flush=True)
        return chosen
    if supported and emulated:
        print("note: this device has no products of bf16: they are emulated, and slower than those of fp32",
              file=sys.stderr, flush=True)
    if not supported:
        others = " or ".join(name for name in precision.PRECISIONS if name != wanted)
        raise UserError(f"precision {wanted!r}: {TITLES[script.backend.NAME]} has no products of {dtype} on this "
                        f"device: choose {others}, or another framework or device")
    return wanted


def _check_updates(job: Job, pretrains: bool) -> None:
    """Refuse to gather gradients for longer than a stage lasts: its weights would stay as they are."""
    stages = [("finetune", job.data.finetune, job.recipe.finetune_epochs)]
    if pretrains:
        stages.insert(0, ("pretraining", job.data.pretrain, job.recipe.pretrain_epochs))
        if job.recipe.mae_epochs:
            stages.insert(0, ("masked autoencoder", job.data.pretrain, job.recipe.mae_epochs))
    for name, dataset, epochs in stages:
        steps = job.steps_per_epoch(dataset) * epochs
        if job.recipe.accumulate_steps > steps:
            raise UserError(f"accumulate_steps must be at most {steps}, the steps of the {name}, "
                            f"not {job.recipe.accumulate_steps}: no weight would ever change")


