"""One stage, trained in FastEstimator's op graph: the same lines for the three frameworks."""
import contextlib

from vit.model.parameters import Weights
from vit.training import graphs, op_graph, unread
from vit.training.job import Stage
from vit.training.report.log import aside


def fit(stage: Stage, weights: Weights) -> Weights:
    """Train a model that starts from `weights`, as the stage says.

    Args:
        stage: The stage; its model and its history are filled.
        weights: Canonical weights to start from.

    Returns:
        The canonical weights that it ends with.
    """
    job, script, recipe = stage.job, stage.job.script, stage.job.recipe
    fe = script.backend.load_fastestimator()
    from fastestimator.op.tensorop.loss import CrossEntropy
    from fastestimator.op.tensorop.model import ModelOp, UpdateOp
    from fastestimator.op.tensorop.tensorop import LambdaOp

    from vit.training import pipeline, traces

    model = script.ViT(stage.config, job.dtype, recipe.precision, weights)
    if stage.freeze_encoder:
        script.backend.freeze_encoder(model, script.parameters(model))
    if job.options.activation_checkpointing:
        script.backend.recompute(model.blocks)
    if job.options.compile:
        script.backend.compile_model(model)
    if script.__name__ == "__main__" and job.world.alone:  # a command: its functions are those of its files
        script.backend.keep_graphs(graphs.folder(), graphs.key(stage))
    # FastEstimator looks into what a function refers to, and chokes on a module.
    Optimizer, parameters, depth = script.backend.Optimizer, script.parameters, stage.config.depth
    shared, reduce = not job.world.alone, None if job.world.alone else job.world.reduce
    weighted_sum, mean = script.backend.workers.weighted_sum, script.backend.workers.mean
    stage.model = model = fe.build(model_fn=lambda: model,
                                   optimizer_fn=lambda *_: Optimizer(parameters(model), recipe, depth, reduce),
                                   model_name=stage.name)
    loss_scale = model.current_optimizer.loss_scale

    def scale(loss):
        return loss * loss_scale

    on_device = script.backend.on_accelerator()  # which the host need not keep waiting for normalized images
    images = recipe if stage.classifies else recipe.unmixed()
    batches = pipeline.build(stage.dataset.train, stage.dataset.evaluation, job.data, images,
                             script.backend.CHANNELS_FIRST, job.options.num_workers, job.dtype, stage.config, on_device,
                             job.world.share, stage.epochs)
    if stage.classifies:
        losses = [CrossEntropy(inputs=("y_pred", "y"), outputs="each_ce" if shared else "ce", from_logits=True,
                               average_loss=not shared)]
    else:  # a masked autoencoder's predictions are its losses
        losses = [] if shared else [LambdaOp(fn=mean, inputs="y_pred", outputs="ce")]
    if shared:
        each = "each_ce" if stage.classifies else "y_pred"
        losses.append(LambdaOp(fn=weighted_sum, inputs=(each, "weight"), outputs="ce"))
    network = fe.Network(ops=[
        *pipeline.normalizing(batches, script.backend),
        ModelOp(model=model, inputs=stage.train_inputs, outputs="y_pred", mode="train"),
        ModelOp(model=model, inputs=stage.eval_inputs, outputs="y_pred", mode="!train"),
        *losses,
        *([LambdaOp(fn=scale, inputs="ce", outputs="scaled_ce", mode="train")] if loss_scale is not None else []),
        UpdateOp(model=model, loss_name="scaled_ce" if loss_scale is not None else "ce",
                 merge_grad=recipe.accumulate_steps),
    ])
    watching = traces.build(stage, model)
    if job.saves_checkpoints and job.world.first:
        op_graph.write(stage, batches, network, watching)
    estimator = fe.Estimator(pipeline=batches,
                             network=network,
                             epochs=stage.epochs,
                             traces=watching,
                             train_steps_per_epoch=recipe.train_steps_per_epoch,
                             eval_steps_per_epoch=stage.eval_steps,
                             log_steps=job.options.log_steps,
                             monitor_names="ce")
    unread.leave_numbers(network)
    if shared:
        network.run_step = traces.WholeBatch(network, stage).run_step
    progress = next(trace for trace in watching if isinstance(trace, traces.Progress))
    with aside(job.options.verbose), contextlib.closing(progress):  # also after an error, which skips every on_end
        estimator.fit(warmup=False)
    return script.to_numpy(model)
