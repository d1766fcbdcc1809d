"""Stand-ins for what FastEstimator imports and most programs never use: it is imported when something of it is used.

FastEstimator's modules import TensorFlow, Keras, pandas, plotly, LaTeX's and other packages as they are imported
themselves, which takes several times as long as importing torch. Most of it is there for annotations and `isinstance`.

After `install()`, a module of FastEstimator that imports one of `PACKAGES` while nobody else has gets a stand-in:

* to `isinstance` and `issubclass` it answers no, which is the truth as long as the package is not loaded;
* what TensorFlow would answer a program that has no TensorFlow model, `_ANSWERS` answers;
* any other use (a call, a base class, a value) loads the package, and all its stand-ins become what they stand for.
  Where the package is not installed, that is the ModuleNotFoundError which its import would have been.

They do so as well at the first use after somebody else has imported the package. Nobody but FastEstimator's modules
sees a stand-in: `sys.modules` holds none, and Python's import statement is as it was (those modules have `__builtins__`
of their own, with another `__import__`).
"""
import builtins
import importlib
import importlib.abc
import importlib.machinery
import sys
import typing
from types import SimpleNamespace

# Two are FastEstimator's own: one writes 3.6 MB of JavaScript as it is imported, one draws models with LaTeX.
PACKAGES = ("tensorflow", "tensorflow_probability", "keras", "pandas", "plotly", "scipy", "sklearn", "pylatex", "pydot",
            "dot2tex", "jsonpickle", "gdown", "wget", "requests", "nltk", "cpuinfo", "torchinfo", "torchview",
            "fastestimator.summary.logs.log_plot", "fastestimator.trace.io.traceability")
_ROOT = "fastestimator"


def install() -> None:
    """Give stand-ins to the modules of FastEstimator that are imported from now on. A second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds FastEstimator's modules, and has them executed by `_Loader`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != _ROOT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):

    def exec_module(self, module) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    """`__import__` of FastEstimator's modules."""
    package = _package(name) if level == 0 else None
    if package is None or _loaded(package):
        return __import__(name, globals, locals, fromlist, level)
    return _stand_in(name if fromlist else package)


def _package(name: str) -> str | None:
    """Which of `PACKAGES` a module belongs to."""
    return next((package for package in PACKAGES if name == package or name.startswith(f"{package}.")), None)


def _loaded(package: str) -> bool:
    """Whether a package has been imported, to its end."""
    module = sys.modules.get(package)
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


class _StandIn:
    """A module, or something in one: `_names` are the attributes that lead to it."""

    def __init__(self, module: str, names: tuple[str, ...] = ()) -> None:
        vars(self).update(_module=module, _names=names, _package=_package(module), _parts={})

    def _get(self):
        """What this stands for: its package is loaded, and FastEstimator's modules get that in its place."""
        if not _loaded(self._package) and self._package == "tensorflow":
            from fe_compat import legacy_tensorflow
            legacy_tensorflow()
        found = importlib.import_module(self._package)
        if self._package not in _settled:
            _settled.add(self._package)
            _settle(self._package)
        if self._module != self._package:
            found = importlib.import_module(self._module)
        for name in self._names:
            found = getattr(found, name)
        return found

    def __getattr__(self, name):
        if _loaded(self._package) or name == "__version__":
            return getattr(self._get(), name)
        if name.startswith("__"):  # what typing, inspect and others look for
            raise AttributeError(name)
        if name not in self._parts:
            self._parts[name] = _StandIn(self._module, (*self._names, name))
        return self._parts[name]

    def __setattr__(self, name, value):
        if _loaded(self._package) or (str(self), name) != ("tensorflow", "print"):  # FastEstimator silences that one
            setattr(self._get(), name, value)

    def __call__(self, *args, **kwargs):
        if not _loaded(self._package) and str(self) in _ANSWERS:
            answer = _ANSWERS[str(self)](*args, **kwargs)
            if answer is not NotImplemented:
                return answer
        return self._get()(*args, **kwargs)

    def __instancecheck__(self, instance):
        return _loaded(self._package) and isinstance(instance, self._get())

    def __subclasscheck__(self, subclass):
        return _loaded(self._package) and issubclass(subclass, self._get())

    def __mro_entries__(self, bases):
        return (self._get(),)

    def __or__(self, other):
        return typing.Union[self, other]  # noqa: UP007 (`|` would come here again)

    def __ror__(self, other):
        return typing.Union[other, self]  # noqa: UP007

    def __eq__(self, other):
        return self is other or (_loaded(self._package) and self._get() == other)

    def __hash__(self):
        return hash((self._module, self._names))

    def __getitem__(self, key):
        return self._get()[key]

    def __iter__(self):
        return iter(self._get())

    def __str__(self):
        return ".".join((self._module, *self._names))

    def __repr__(self):
        return f"<stand-in for {self}>"


_modules: dict[str, _StandIn] = {}
_settled: set[str] = set()


def _stand_in(module: str) -> _StandIn:
    return _modules.setdefault(module, _StandIn(module))


class _Decorated:
    """A method that `tensorflow.function` decorates once TensorFlow is loaded."""

    def __init__(self, function, options: dict) -> None:
        self.function, self.options = function, options

    def get(self):
        return sys.modules["tensorflow"].function(**self.options)(self.function)

    def __get__(self, instance, owner=None):
        _stand_in("tensorflow")._get()  # replaces this in its class
        return getattr(owner if instance is None else instance, self.function.__name__)


def _function(function=None, **options):
    return NotImplemented if function is not None else lambda function: _Decorated(function, options)


# Of calls that FastEstimator makes in any training: what they are worth as long as TensorFlow is not loaded.
_ANSWERS = {
    "tensorflow.is_tensor": lambda value: False,
    "tensorflow.function": _function,
    "tensorflow.get_logger": lambda: SimpleNamespace(handlers=()),
    "tensorflow.distribute.get_strategy": lambda: None,
    # The policy is float32 until another is set.
    "tensorflow.keras.mixed_precision.Policy": lambda name: name if name == "float32" else NotImplemented,
    "tensorflow.keras.mixed_precision.set_global_policy":
        lambda policy: None if policy == "float32" else NotImplemented,
    # It is told to warn of lambdas now rather than later.
    "tensorflow.python.autograph.pyct.static_analysis.liveness.Analyzer.lamba_check": lambda *_: None,
}


def _settle(package: str) -> None:
    """Put what they stand for in the place of a package's stand-ins, wherever FastEstimator's modules hold any."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _ROOT and module is not None:
            content = vars(module)
            for key, value in list(content.items()):
                content[key] = _without(value, package)
                if isinstance(value, type) and value.__module__ == name:
                    for method, held in list(vars(value).items()):
                        if isinstance(held, _Decorated) and package == "tensorflow":
                            setattr(value, method, held.get())


def _without(value, package: str):
    """A value with what they stand for in the place of a package's stand-ins; dicts and lists stay the same objects."""
    if isinstance(value, _StandIn):
        return value._get() if value._package == package else value
    if type(value) is tuple and any(type(one) is _StandIn for one in value):
        return tuple(_without(one, package) for one in value)
    if type(value) is list and any(type(one) is _StandIn for one in value):
        value[:] = [_without(one, package) for one in value]
    elif type(value) is dict and any(type(one) is _StandIn for item in value.items() for one in item):
        pairs = [(_without(key, package), _without(held, package)) for key, held in value.items()]
        value.clear()
        value.update(pairs)
    return value
