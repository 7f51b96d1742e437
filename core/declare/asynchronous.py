"""Refuses what is async, by name: actions and what they call are run by plain calls, so nobody would ever await it.

`find_async` is asked when the Bus is built; `refuse_awaitable` of each value that an application's code hands back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import AsyncGeneratorType
from typing import Any, Final, TypeVar, get_type_hints

from actionbus.core.errors import Misuse

T = TypeVar("T")
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple, set})
_ADVICE: Final = "actions run synchronously: give a plain `def`, which may run what is async to its end (asyncio.run)"


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine or an async generator, so far as one can tell without calling it."""
    if isinstance(function, (staticmethod, classmethod)):
        function = function.__func__
    called = function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (function, called))


def async_problem(function: Any, what: str) -> list[str]:
    """What is wrong with a function that must not be async; nothing if it is not."""
    return [f"{what} is async; {_ADVICE}"] if is_async(function) else []


def async_methods(factory: Callable[..., Any]) -> list[str]:
    """The public methods that are async, of the class that a factory is or says that it returns."""
    made = factory if isinstance(factory, type) else _told(factory)
    if not isinstance(made, type):
        return []
    names = (name for name in dir(made) if not name.startswith("_"))
    return [name for name in names if is_async(inspect.getattr_static(made, name))]


def _told(factory: Callable[..., Any]) -> Any:
    try:
        return get_type_hints(factory).get("return")
    except Exception:  # a name that is imported for type checkers only, or no function at all
        return None


def refuse_awaitable(value: T, what: str) -> T:
    """Give a value back, unless somebody would have to await it: that is closed, and Misuse raised."""
    if type(value) in _PLAIN or not _is_awaited(value):
        return value
    ended = "close" if isinstance(value, Coroutine) else "cancel"
    if callable(end := getattr(value, ended, None)):
        end()
    raise Misuse(f"{what} gave {_article(value)}, which nobody awaits, so it did nothing; {_ADVICE}")


def _is_awaited(value: object) -> bool:
    kind = type(value)
    return (
        inspect.isawaitable(value)
        or isinstance(value, AsyncGeneratorType)
        or (hasattr(kind, "__aenter__") and not hasattr(kind, "__enter__"))
        or (hasattr(kind, "__aiter__") and not hasattr(kind, "__iter__"))
    )


def _article(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
