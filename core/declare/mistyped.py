"""Warns of class attributes whose name is nearly that of a declaration: nothing reads them, so they would do nothing.

Called by the registry for handlers, and by projections and subscriptions, when a Bus is built.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import Any

from actionbus.core.values.nearest import nearest


def warn_of_mistyped(declared: type, base: type, own: Collection[str] = ()) -> None:
    """Warn once of each public attribute that is near one of `base`'s, but is none; `own` are names that it may have.

    It is a warning: the name may be meant. Where it is, an underscore before it says so.
    """
    for holder, name, value in _unknown(declared, base):
        kind: Callable[[Any], bool] = _is_method if _is_method(value) else _is_data
        near = nearest(
            name, [each for each, known in inspect.getmembers_static(base) if each[0] != "_" and kind(known)]
        )
        if near is not None and name not in own:
            _warn(
                holder,
                f"{holder.__module__}.{holder.__qualname__} has {name!r}, which nothing reads; did you mean {near!r}? "
                f"If it is your own, call it otherwise, such as '_{name}'",
            )


def _unknown(declared: type, base: type) -> Iterator[tuple[type, str, Any]]:
    """Its own attributes and those of its mixins that the base does not have."""
    for holder in declared.__mro__:
        if not issubclass(base, holder):
            for name, value in vars(holder).items():
                if not name.startswith("_") and not hasattr(base, name):
                    yield holder, name, value


def _is_method(value: object) -> bool:
    return isinstance(value, (FunctionType, classmethod, staticmethod))


def _is_data(value: object) -> bool:
    return not _is_method(value) and not isinstance(value, property)


def _warn(holder: type, message: str) -> None:
    """At the line of the class, once, as Python warns of a file's syntax."""
    try:
        file, line = inspect.getsourcefile(holder) or "<unknown>", inspect.getsourcelines(holder)[1]
    except (OSError, TypeError):  # made by code
        file, line = "<unknown>", 1
    warnings.warn_explicit(message, UserWarning, file, line, module=holder.__module__, registry=_WARNED)


_WARNED: dict[Any, Any] = {}
"""What `warnings` notes of those that it has shown."""
