"""Checks what is given to constructors and declarations, and says what was expected, what came and what to do.

Each function adds to `problems` what is wrong, by the parameter's name, and gives back what can be gone on with.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def listed(
    name: str, given: Any, fits: Callable[[Any], bool], expected: str, problems: list[str], hint: str = ""
) -> tuple[Any, ...]:
    """The items of a list, a tuple or another iterable, each of which `fits`."""
    if fits(given):
        problems.append(f"{name}: expected a list of {expected}, not one alone; put it into a list: {name}=[{hint}]")
        return ()
    if isinstance(given, (str, bytes, Mapping)) or not _is_iterable(given):
        problems.append(f"{name}: expected a list of {expected}, not {shown(given)}")
        return ()
    found = tuple(given)
    problems += [f"{name}: expected {expected}, not {shown(each)}" for each in found if not fits(each)]
    return found if all(map(fits, found)) else ()


def texts(name: str, given: Any, expected: str, problems: list[str]) -> tuple[str, ...]:
    """One text, or the texts of a list; none is empty."""
    return (given,) if is_text(given) else listed(name, given, is_text, expected, problems)


def wanted(name: str, given: Any, kinds: type | tuple[type, ...], expected: str, problems: list[str]) -> bool:
    """Whether it is of the kinds; a boolean is no number."""
    fits = isinstance(given, kinds) and (not isinstance(given, bool) or bool in _several(kinds))
    if not fits:
        problems.append(f"{name}: expected {expected}, not {shown(given)}")
    return fits


def is_text(value: object) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def shown(value: object) -> str:
    """What came, in a message: short, and never the text of an object's memory address alone."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    text = reprlib.repr(value)
    return f"a {type(value).__qualname__}" if text.startswith("<") else text


def _is_iterable(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, type)


def _several(kinds: type | tuple[type, ...]) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)
