"""A process that tells what it has spent until its first training step was done, and ends.

    python benchmarks/contenders/start.py DESCRIPTOR SECONDS SCRIPT [FLAG ...]     one of ours
    python benchmarks/contenders/start.py DESCRIPTOR SECONDS torch|tensorflow VARIANT     FastEstimator's own script

SECONDS is what `time.monotonic()` said when the process was started; the answer, JSON, goes to a file DESCRIPTOR. Wall
and processor seconds are told apart by who has spent them: imports by the package that asked for them, the innermost
one that has a name here, and what is not an import by whether the first training step has begun.
"""
import importlib._bootstrap as bootstrap
import json
import os
import runpy
import sys
import time

FRAMEWORKS = {"torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow", "tf_keras": "tensorflow",
              "mindspore": "mindspore"}
REST, FASTESTIMATOR, OTHER, BUILDING, STEP = "rest", "fastestimator", "other", "building", "step"


class Clock:
    """Who has spent what: `spent` maps a name to [wall, processor] seconds."""

    def __init__(self, begun: float) -> None:
        self.spent, self.stack = {}, [BUILDING]
        self.last = time.monotonic(), time.process_time()
        self.spent[REST] = [self.last[0] - begun, self.last[1]]  # until Python was up

    def count(self) -> None:
        """Add what has passed since the last count to who is at work."""
        now = time.monotonic(), time.process_time()
        row = self.spent.setdefault(self.stack[-1], [0.0, 0.0])
        row[:] = [sum_ + one - before for sum_, one, before in zip(row, now, self.last, strict=True)]
        self.last = now

    def enter(self, name: str) -> None:
        self.count()
        self.stack.append(name)

    def leave(self) -> None:
        self.count()
        self.stack.pop()


def watch(clock: Clock, own: str, descriptor: int) -> None:
    """Count imports from now on, and end the process when FastEstimator's Estimator has done a step."""
    original = bootstrap._find_and_load

    def find_and_load(name, import_):
        top = name.partition(".")[0]
        group = FRAMEWORKS.get(top)
        if group is not None:
            group = own if group == own else OTHER
        elif top == "fastestimator":
            group = FASTESTIMATOR
        elif clock.stack[-1] in (BUILDING, STEP):
            group = REST
        if group is None or group == clock.stack[-1]:
            module = original(name, import_)
        else:
            clock.enter(group)
            try:
                module = original(name, import_)
            finally:
                clock.leave()
        if name == "fastestimator.estimator":
            _end_after_a_step(clock, module.Estimator, descriptor)
        return module

    bootstrap._find_and_load = find_and_load


def _end_after_a_step(clock: Clock, estimator: type, descriptor: int) -> None:
    begin, end = estimator._run_traces_on_batch_begin, estimator._run_traces_on_batch_end

    def begun(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        clock.enter(STEP)

    def ended(self, *args, **kwargs):
        end(self, *args, **kwargs)
        clock.count()
        loaded = sorted(set(FRAMEWORKS) & set(sys.modules))
        os.write(descriptor, json.dumps({"spent": clock.spent, "loaded": loaded}).encode())
        os._exit(0)

    estimator._run_traces_on_batch_begin, estimator._run_traces_on_batch_end = begun, ended


def main() -> None:
    descriptor, begun, what, *flags = sys.argv[1:]
    clock = Clock(float(begun))
    if not what.endswith(".py"):
        watch(clock, what, int(descriptor))
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        _fastestimators_own(what, *flags)
    own = {"vit_torch.py": "torch", "vit_tf.py": "tensorflow", "vit_ms.py": "mindspore"}[os.path.basename(what)]
    watch(clock, own, int(descriptor))
    sys.argv[:] = [what, *flags]
    sys.path[0] = os.path.dirname(what)
    runpy.run_path(what, run_name="__main__")


def _fastestimators_own(framework: str, variant: str) -> None:
    """Run FastEstimator's apphub script, with the imports that FastEstimator makes by itself."""
    import importlib
    from types import SimpleNamespace

    from fe_compat import stand_ins
    stand_ins.install = lambda: None
    from vit.model.config import VARIANTS
    contenders = importlib.import_module(f"benchmarks.contenders.{framework}")
    config = VARIANTS[variant].replace(num_classes=100)
    contenders.fe(variant, config, 32, SimpleNamespace(begin=lambda: None, end=lambda: None))


if __name__ == "__main__":
    main()
