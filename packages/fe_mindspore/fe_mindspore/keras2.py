"""FastEstimator's TensorBoard trace imports names of Keras 2 from `keras`; today they live in `tf_keras`.

Where `keras` is Keras 3, that one module is executed with `tf_keras` under that name, and nothing else is.
"""
import importlib.abc
import importlib.machinery
import sys

_MODULE = "fastestimator.trace.io.tensorboard"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module, and has it executed by `_Loader`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):

    def exec_module(self, module) -> None:
        import keras
        if not keras.__version__.startswith("3."):
            super().exec_module(module)
            return
        import tf_keras
        import tf_keras.src.callbacks
        names = {"keras": tf_keras, "keras.src": tf_keras.src, "keras.src.callbacks": tf_keras.src.callbacks}
        kept = {name: sys.modules.get(name) for name in names}
        sys.modules.update(names)
        try:
            super().exec_module(module)
        finally:
            for name, original in kept.items():
                if original is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = original


def install() -> None:
    """Let the TensorBoard trace be imported beside Keras 3."""
    sys.meta_path.insert(0, _Finder())
