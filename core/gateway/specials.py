"""What Python asks of an object's class and not of the object: `len`, `in`, `str`, `/`, indexing, truth, comparison.

`gateway.outside_calls` gives a proxy those of the class for which it stands, so that it can do neither less nor more.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

_PLAIN: Final[Mapping[str, Callable[..., Any]]] = {
    "len": len,
    "bool": bool,
    "str": str,
    "format": format,
    "bytes": bytes,
    "fspath": os.fspath,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "round": round,
    "abs": abs,
    "neg": operator.neg,
    "pos": operator.pos,
    "invert": operator.invert,
    "reversed": reversed,
    "next": next,
    "contains": operator.contains,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
_BOTH_WAYS: Final = {
    name: getattr(operator, f"__{name}__")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
} | {"lshift": operator.lshift, "rshift": operator.rshift, "divmod": divmod}
_NAMES: Final = {"getitem": "[]"}
"""How a call is recorded, where that is not by its own name."""


def _forwarded(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
    path = _NAMES.get(name, f".__{name}__")

    def method(self: Any, *args: Any) -> Any:
        return self._log.perform(f"{self._name}{path}", args, {}, lambda: do(self._target, *args))

    return method


def _swapped(do: Callable[..., Any]) -> Callable[..., Any]:
    return lambda target, other: do(other, target)


SPECIAL_METHODS: Final[Mapping[str, Callable[..., Any]]] = {
    f"__{name}__": _forwarded(name, do)
    for name, do in {**_PLAIN, **_BOTH_WAYS, **{f"r{name}": _swapped(do) for name, do in _BOTH_WAYS.items()}}.items()
}
_made: WeakKeyDictionary[type, dict[type, type]] = WeakKeyDictionary()


def with_specials(proxy: type, kind: type, more: Mapping[str, Any]) -> type:
    """A subclass of `proxy` with the special methods, of those here and in `more`, that `kind` has."""
    known = _made.setdefault(kind, {})
    if proxy not in known:
        methods = (*SPECIAL_METHODS.items(), *more.items())
        found = {name: method for name, method in methods if has(kind, name) and not has(proxy, name)}
        if "__eq__" in found or kind.__hash__ is None:
            found["__hash__"] = None if getattr(kind, "__hash__", None) is None else _hash
        known[proxy] = type(proxy.__name__, (proxy,), {"__slots__": (), **found}) if found else proxy
    return known[proxy]


def has(kind: type, name: str) -> bool:
    """Whether a class has a special method of its own, and not just what every object has."""
    return next((vars(each)[name] for each in kind.__mro__[:-1] if name in vars(each)), None) is not None


def is_plain_iterator(kind: type) -> bool:
    """Whether a class has no special methods but those of an iterator."""
    return has(kind, "__next__") and not any(has(kind, name) for name in SPECIAL_METHODS if name != "__next__")


def _hash(self: Any) -> int:
    return hash(self._target)
