"""What a user's function reads besides its arguments, as a key: the values as they are now.

A compiled program holds the values that its functions found around them when it was traced: globals, closures,
defaults, attributes of objects and modules. With other values it is another program, so the key of a program has a
digest of all of these. Functions that a user's function calls are followed unless they belong to an installed package;
classes, containers and partial functions are looked into; arrays and other objects count by content.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import io
import pickle
import sys
import sysconfig
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import jax
import numpy as np

from glmmjax._errors import ArgumentError, GlmmjaxWarning

PACKAGES = ("glmmjax", "jax", "jaxlib", "numpy", "builtins")  # what they read does not change while a process runs
NUMBERS = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, np.dtype, jax.Array)
_CONTAINERS = (tuple, list, dict, set, frozenset)
# Names of builtins through which a function can read what is not written in it.
UNSEEN = ("globals", "locals", "vars", "eval", "exec", "open", "input", "__import__")

_tracing: Callable[[Any], AbstractContextManager[Any]] = jax.make_user_context(None)


_PROCESS = uuid4().hex
_known: ContextVar[dict[Any, Surroundings] | None] = ContextVar("known", default=None)


class Surroundings(NamedTuple):
    """A digest of what some functions read, whether there is something that cannot be read, and in which process."""

    digest: bytes
    opaque: bool
    process: str = _PROCESS


def check_hashable(what: str, value: Any, error: type[Exception] = ArgumentError) -> None:
    """Raise an error, which names the remedy, where a function or a record of functions cannot be part of a key."""
    try:
        hash(value)
    except TypeError as reason:
        raise error(
            f"{what} cannot be hashed ({reason}), so that its programs could not be found again. Pass a function, or a "
            "method of the object; or give its class a __hash__, which dataclass(frozen=True) or (eq=False) does."
        ) from reason


def read_surroundings(static: Any) -> Surroundings | None:
    """What the user's functions in nested tuples, records and partial functions read now; None if there are none."""
    if not has_own_functions(static):
        return None
    known = _known.get()
    if known is None:
        return _read(static)
    if static not in known:
        known[static] = _read(static)
    return known[static]


@contextmanager
def unchanged() -> Iterator[None]:
    """In this context everything is read once: nothing that a fit does changes what its functions read."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def _read(static: Any) -> Surroundings:
    sink = io.BytesIO()
    reader = _Reader(sink)
    try:
        reader.dump(tuple(_own(static)))
    except Exception:  # anything may be raised by what an object does when it is pickled
        reader.opaque = True
    return Surroundings(hashlib.blake2b(sink.getbuffer(), digest_size=16).digest(), reader.opaque)


def warn_if_changed(then: Surroundings | None, static: Any) -> None:
    """Warn where the user's functions do not read any more what they read when a model was fitted, in this process."""
    if then is None or then.opaque or then.process != _PROCESS or read_surroundings(static) == then:
        return
    warnings.warn(
        "what a function of this model reads besides its arguments (a global, a closure, an attribute) is not what it "
        "was when the model was fitted, and the new values are used with the old estimates: fit again.",
        GlmmjaxWarning,
        stacklevel=4,
    )


def tracing(read: Surroundings | None) -> AbstractContextManager[Any]:
    """In this context JAX, which keeps what it has traced by function, keeps it also by what the functions read."""
    return _tracing(None if read is None else object() if read.opaque else read.digest)


@lru_cache(maxsize=256)
def has_own_functions(static: Any) -> bool:
    """Whether functions or objects of the user are in nested tuples, records and partial functions; hashable."""
    return _any(_own(static))


def _own(value: Any) -> Iterator[Any]:
    if isinstance(value, NUMBERS):
        return
    if isinstance(value, dict):
        yield from _own(tuple(value.values()))
    elif isinstance(value, _CONTAINERS):
        for one in value:
            yield from _own(one)
    elif _is_named(value) and _root(value.__module__) in PACKAGES:
        return
    elif isinstance(value, partial) or _root(_home(value)) not in PACKAGES:
        yield value
    elif isinstance(value, types.FunctionType) and _root(value.__globals__.get("__name__")) not in PACKAGES:
        yield value
    elif isinstance(value, types.FunctionType):  # made by a function of a package, perhaps from one of the user
        if _any(_own((_cells(value), value.__defaults__, getattr(value, "__wrapped__", None)))):
            yield value
    elif isinstance(value, types.MethodType):
        if _any(_own((value.__func__, value.__self__))):
            yield value
    elif is_dataclass(value):
        yield from _own(tuple(getattr(value, field.name) for field in fields(value)))
    elif hasattr(value, "__wrapped__"):  # compiled by jax.jit, or given derivatives
        if _any(_own((value.__wrapped__, *filter(callable, getattr(value, "__dict__", {}).values())))):
            yield value


def _any(found: Iterator[Any]) -> bool:
    return next(found, None) is not None


# -- reading -----------------------------------------------------------------------------------------------------------
class _Reader(pickle.Pickler):
    """Writes values by content, and functions, classes, modules and objects as what can be read from them."""

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__(sink, protocol=5)
        self.fast = True  # equal values are written alike, whether or not they are the same object
        self.met: dict[int, tuple[int, Any]] = {}  # with the objects, so that none is replaced by another in its place
        self.opaque = False

    def persistent_id(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return None
        describe = next((describe for kind, describe in _DESCRIPTIONS if isinstance(value, kind)), None)
        if describe is None and hasattr(value, "__wrapped__"):
            describe = _wrapper
        if describe is None and not _is_installed(_home(value)):
            describe = _instance
        if describe is None:
            return None
        if id(value) in self.met:
            return self.met[id(value)][0]
        self.met[id(value)] = len(self.met), value
        return describe(self, value)


def _array(reader: _Reader, value: Any) -> Any:
    if isinstance(value, jax.core.Tracer):
        reader.opaque = True
        return "traced"
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "key", np.asarray(jax.random.key_data(value))
    return "array", np.asarray(value)


def _numbers(reader: _Reader, value: np.ndarray) -> Any:
    content = value.tolist() if value.dtype.hasobject else value.tobytes()
    return "array", type(value).__qualname__, repr(value.dtype), value.shape, content


def _generator(reader: _Reader, value: Any) -> Any:
    reader.opaque = True
    return "generator"


def _module(reader: _Reader, value: types.ModuleType) -> Any:
    return "module", value.__name__, None if _is_installed(value.__name__) else _public(vars(value))


def _class(reader: _Reader, value: type) -> Any:
    name = value.__module__, value.__qualname__
    if _is_installed(value.__module__):
        return "class", name
    if issubclass(value, Enum):
        return "class", name, [(member.name, member.value) for member in value]
    own = {
        key: part
        for key, part in vars(value).items()
        if isinstance(part, types.FunctionType) or not (key.startswith(("__", "_abc")) or isinstance(part, _SLOTS))
    }
    return "class", name, own, value.__bases__


def _function(reader: _Reader, value: types.FunctionType) -> Any:
    home = value.__globals__.get("__name__", "__main__")
    around = _cells(value), value.__defaults__, value.__kwdefaults__, vars(value)
    if _is_installed(home):
        return "function", home, value.__qualname__, None if _is_named(value) else around
    paths = _paths(value.__code__)
    reader.opaque |= any(path[0] in UNSEEN and path[0] not in value.__globals__ for path in paths)
    return "function", _code(value.__code__), around, [_found(path, value.__globals__) for path in paths]


def _wrapper(reader: _Reader, value: Any) -> Any:
    if _is_installed(value.__module__ or "") and _is_named(value):
        return "function", value.__module__, value.__qualname__
    return "wrapper", type(value).__qualname__, value.__wrapped__, getattr(value, "__dict__", None)


def _instance(reader: _Reader, value: Any) -> Any:
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    parts = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    content = None
    plains: tuple[Any, ...] = (int, float, complex, str, bytes, tuple, list, dict)
    for plain in plains:
        if isinstance(value, plain):
            content = plain(value)
    return "object", type(value), parts, getattr(value, "__dict__", None), content


_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, tuple, list, dict)
_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_DESCRIPTIONS: tuple[tuple[Any, Callable[[_Reader, Any], Any]], ...] = (
    (np.ndarray, _numbers),
    (jax.Array, _array),
    (types.GeneratorType, _generator),
    (types.ModuleType, _module),
    (Enum, lambda reader, x: ("member", type(x).__qualname__, x.name, x.value)),
    (type, _class),
    (types.FunctionType, _function),
    (types.MethodType, lambda reader, x: ("method", x.__func__, x.__self__)),
    (partial, lambda reader, x: ("partial", x.func, x.args, x.keywords)),
    (types.BuiltinFunctionType, lambda reader, x: ("builtin", x.__qualname__, x.__self__)),
    (property, lambda reader, x: ("property", x.fget)),
    ((staticmethod, classmethod), lambda reader, x: ("method of a class", x.__func__)),
    (types.MappingProxyType, lambda reader, x: ("mapping", dict(x))),
    ((set, frozenset), lambda reader, x: ("set", sorted(x, key=repr))),
)


def _public(names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if not name.startswith("__")}


# -- functions ---------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def _paths(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """The global names that a function and those inside it read, each with the attributes taken from it: ``a.b.c``."""
    found: dict[tuple[str, ...], None] = {}
    path: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and path:
            path = (*path, step.argval)
            continue
        if path:
            found[path] = None
        path = (step.argval,) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME") else ()
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= dict.fromkeys(_paths(inner))
    return tuple(found)


def _found(path: tuple[str, ...], names: Mapping[str, Any]) -> Any:
    """The value at the end of a path through modules, the name alone of what belongs to an installed package."""
    root = path[0]
    value = names[root] if root in names else getattr(builtins, root, sys.modules.get(root, "nothing"))
    if root not in names and hasattr(builtins, root):
        return root
    for name in path[1:]:
        if not isinstance(value, types.ModuleType):
            break
        home, value = value.__name__, getattr(value, name, "nothing")
        if callable(value) and _is_installed(home):
            return home, name
    return value


@lru_cache(maxsize=4096)
def _code(code: types.CodeType) -> bytes:
    """A digest of the text of a function."""
    consts = [_code(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    text = code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags, consts
    return hashlib.blake2b(repr(text).encode(), digest_size=16).digest()


def _cells(function: types.FunctionType) -> tuple[Any, ...]:
    """The values in the closure of a function."""

    def content(cell: types.CellType) -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # not yet filled
            return "nothing"

    return tuple(content(cell) for cell in function.__closure__ or ())


# -- packages ----------------------------------------------------------------------------------------------------------
def _home(value: Any) -> str:
    """The module of a class, or of the class of an object."""
    return str(value.__module__ if isinstance(value, type) else type(value).__module__)


def _root(module: str | None) -> str:
    return (module or "__main__").partition(".")[0]


def _is_named(value: Any) -> bool:
    """Whether a function or class is what its module holds by its name, not one made by a function."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is value


def _is_installed(module: str) -> bool:
    """Whether a module belongs to Python or an installed package, and not to the user."""
    root = _root(module)
    return root in PACKAGES or (root in sys.modules and _is_installed_root(root))


@cache
def _is_installed_root(root: str) -> bool:
    module = sys.modules[root]
    if root in ("__main__", "__mp_main__"):
        return False
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if file is None:
        return root in sys.builtin_module_names or getattr(module.__spec__, "origin", None) in ("built-in", "frozen")
    place = Path(file)
    if {"site-packages", "dist-packages"} & set(place.parts):
        return True
    return any(place.is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
