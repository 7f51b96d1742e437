"""Refuses reducers that reach for the clock, chance or the outside world. Used when a bus is built.

A reducer runs again whenever a projection is rebuilt or a batch is absorbed twice, and must give the same document.
What Python hides from inspection is caught later: the projector runs first records twice, see `projections.fold`.
"""

from __future__ import annotations

import builtins
import dis
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any, Final

_IMPURE_MODULES: Final = frozenset(
    {
        "time",
        "random",
        "secrets",
        "os",
        "socket",
        "subprocess",
        "threading",
        "requests",
        "httpx",
        "urllib",
        "shutil",
        "elasticsearch",
        "sqlalchemy",
        "psycopg2",
        "sqlite3",
        "tempfile",
        "asyncio",
        "http",
        "smtplib",
        "redis",
        "io",
    }
)
_IMPURE_BUILTINS: Final = frozenset({"open", "input", "id", "hash", "globals", "exec", "eval", "__import__"})
_IMPURE_ATTRIBUTES: Final = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("uuid", "uuid1"),
    ("uuid", "uuid4"),
    ("uuid", "uuid7"),
}
_IMPURE_FUNCTIONS: Final = frozenset({"uuid1", "uuid4", "uuid7", "getenv"})
_STORES: Final = {
    "STORE_GLOBAL": "assigns the global",
    "DELETE_GLOBAL": "deletes the global",
    "STORE_ATTR": "assigns the attribute",
    "DELETE_ATTR": "deletes the attribute",
}
_DEPTH: Final = 3


def impurities(function: Callable[..., Any], depth: int = 0) -> Iterator[str]:
    """What makes a reducer impure, as far as its code and that of the functions it names tell."""
    code = getattr(function, "__code__", None)
    if code is None:
        return
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        yield "is a coroutine or a generator; it must return the document"
    known = getattr(function, "__globals__", {})
    for each in _nested(code):
        yield from _in_code(each, known, depth)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _in_code(code: CodeType, known: dict[str, Any], depth: int) -> Iterator[str]:
    before: Any = None
    for each in dis.get_instructions(code):
        name = each.argval
        if each.opname in _STORES:
            yield f"{_STORES[each.opname]} {name!r}"
        elif each.opname == "IMPORT_NAME" and str(name).split(".")[0] in _IMPURE_MODULES:
            yield f"imports {name!r}"
        elif each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            found = known.get(name, getattr(builtins, str(name), None))
            yield from _named(str(name), found, name in known, depth)
            before = found
            continue
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD") and before is not None:
            owner = getattr(before, "__name__", "")
            if (owner, name) in _IMPURE_ATTRIBUTES:
                yield f"calls {owner}.{name}"
            before = getattr(before, str(name), None) if isinstance(before, (ModuleType, type)) else None
            continue
        if each.opname not in ("CACHE", "PRECALL", "PUSH_NULL"):
            before = None


def _named(name: str, found: Any, is_global: bool, depth: int) -> Iterator[str]:
    module = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", None)
    if not is_global and name in _IMPURE_BUILTINS:
        yield f"calls {name}"
    elif isinstance(module, str) and is_global and module.split(".")[0] in _IMPURE_MODULES:
        yield f"uses {name!r} of the module {module}"
    elif is_global and getattr(found, "__name__", None) in _IMPURE_FUNCTIONS and inspect.isroutine(found):
        yield f"calls {name}"
    elif is_global and inspect.isfunction(found) and depth < _DEPTH:
        yield from (f"{why} (in {name})" for why in impurities(found, depth + 1))
