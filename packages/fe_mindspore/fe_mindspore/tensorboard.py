"""FastEstimator's TensorBoard trace with a MindSpore network: scalars, images, embeddings, weight histograms."""
from collections.abc import Iterable

from fastestimator.trace.io import tensorboard
from mindspore import nn

from fe_mindspore.convert import to_numpy
from fe_mindspore.errors import UnsupportedError


def check(trace: tensorboard.TensorBoard) -> None:
    """Refuse the options that cannot work.

    Raises:
        UnsupportedError: `write_graph` (True unless set otherwise) or `paint_weights` is on.
    """
    if trace.write_graph:
        raise UnsupportedError("TensorBoard(write_graph=True), which is its default, cannot draw a MindSpore graph: "
                               "pass write_graph=False")
    if trace.paint_weights:
        raise UnsupportedError("TensorBoard(paint_weights=True) cannot paint MindSpore weights: leave it out; "
                               "weight_histogram_freq works")


class Writer(tensorboard._BaseWriter):
    """What the trace writes with."""

    def write_epoch_models(self, mode: str, epoch: int) -> None:
        raise UnsupportedError("TensorBoard(write_graph=True) cannot draw a MindSpore graph")

    def write_weights(self, mode: str, models: Iterable[nn.Cell], step: int, visualize: bool) -> None:
        for model in models:
            for name, parameter in model.parameters_and_names():
                self.summary_writers[mode].add_histogram(tag=f"{model.model_name}_{name.replace('.', '/')}",
                                                         values=to_numpy(parameter), global_step=step)


def install() -> None:
    """Let the trace write with `Writer` wherever the network is a MindSpore one."""
    original = tensorboard.TensorBoard.on_begin
    if getattr(original, "fe_mindspore", False):
        return

    def on_begin(self, data) -> None:
        from fe_mindspore.network import MSNetwork
        original(self, data)
        if isinstance(self.system.network, MSNetwork):
            self.writer.close()
            self.writer = Writer(self.root_log_dir, self.system.experiment_time, self.system.network)

    on_begin.fe_mindspore = True
    tensorboard.TensorBoard.on_begin = on_begin
