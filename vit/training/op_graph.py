"""The op graph of each stage, written down: `graph.json` in a run's folder, of the ops and traces that were built."""
import contextlib
import json

from vit.files.atomic import write_whole
from vit.training.job import Stage

FILE = "graph.json"


def write(stage: Stage, pipeline, network, traces: list) -> None:
    """Put a stage's graph into the file, in which those of the stages before it stay.

    Args:
        stage: The stage.
        pipeline: Its `fastestimator.Pipeline`.
        network: Its `fastestimator.Network`.
        traces: What was handed to its `fastestimator.Estimator`.

    Raises:
        OSError: The file cannot be written.
    """
    path = stage.job.model_dir / FILE
    known = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(path.read_bytes()))
    sources = [{"op": type(source).__name__, "mode": [mode], "inputs": [], "outputs": []}
               for mode, by_id in pipeline.data.items() for source in by_id.values()]
    graph = {"pipeline": [*sources, *map(_described, pipeline.ops)],
             "network": [*map(_described, network.ops)], "traces": [*map(_described, traces)]}
    write_whole(path, f"{json.dumps({**known, stage.name: graph}, indent=1)}\n".encode())


def _described(op) -> dict:
    """An op or a trace: its class, in which modes it runs (None: in all), and the keys that it reads and writes."""
    name, function = type(op).__name__, getattr(op, "fn", None)
    if function is not None:
        name += f"({getattr(function, '__name__', type(function).__name__)})"
    return {"op": name, "mode": sorted(op.mode) if op.mode else None, "inputs": [*op.inputs], "outputs": [*op.outputs]}
