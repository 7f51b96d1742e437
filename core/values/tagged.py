"""Tagged JSON for recorded calls: Python values that plain JSON would change carry a tag and come back as they were.

Called by gateway.outside_calls when a call is recorded, by replay when it is played back.
"""

from __future__ import annotations

import dataclasses
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID

_TAG: Final = "$"
PATHS: Final = (type(Path()), PurePosixPath, PureWindowsPath)
_TEXTUAL: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (lambda v: str(v // timedelta(microseconds=1)), lambda text: timedelta(microseconds=int(text))),
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    bytes: (lambda v: b64encode(v).decode(), b64decode),
    float: (repr, float),
    **{kind: (str, kind) for kind in PATHS},
}
_BY_NAME: Final = {kind.__name__: decode for kind, (_, decode) in _TEXTUAL.items()}
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


class Opaque(ValueError):
    """The value cannot be written down so that it would come back the same."""


def encode(value: Any) -> Any:
    """`value` as JSON with tags, verified by decoding it again. Raises Opaque."""
    try:
        tagged = _encode(value)
        again = decode(tagged)
        same = type(again) is type(value) and bool(again == value)
    except Opaque:
        raise
    except Exception as error:
        raise Opaque(f"{type(value).__name__}: {type(error).__name__}") from None
    if not same:
        raise Opaque(f"a {type(value).__name__} that does not compare equal after a round trip")
    return tagged


def _encode(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float and value == value and abs(value) != float("inf"):
        return value
    if kind in _TEXTUAL:
        return {_TAG: kind.__name__, "value": _TEXTUAL[kind][0](value)}
    if kind is list:
        return [_encode(each) for each in value]
    if kind is dict:
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: _encode(each) for key, each in value.items()}
        return {_TAG: "dict", "value": [[_encode(k), _encode(v)] for k, v in value.items()]}
    if kind.__name__ in _SEQUENCES and kind.__module__ == "builtins":
        items = [_encode(each) for each in value]
        return {_TAG: kind.__name__, "value": items if kind is tuple else sorted(items, key=repr)}
    if isinstance(value, Enum):
        return {_TAG: "enum", "class": class_name(kind), "value": value.name}
    if is_exception_class(value):
        return {_TAG: "exception", "class": class_name(value), "value": None}
    if dataclasses.is_dataclass(value):
        shown = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {_TAG: "dataclass", "class": class_name(kind), "value": shown}
    raise Opaque(f"a {kind.__name__}")


def decode(tagged: Any) -> Any:
    """The value that `encode` was given. Raises Opaque for a class that is not there any more."""
    if isinstance(tagged, list):
        return [decode(each) for each in tagged]
    if not isinstance(tagged, dict):
        return tagged
    if _TAG not in tagged:
        return {key: decode(each) for key, each in tagged.items()}
    tag, value = tagged[_TAG], tagged["value"]
    if tag in _BY_NAME:
        return _BY_NAME[tag](value)
    if tag in _SEQUENCES:
        return _SEQUENCES[tag](decode(each) for each in value)
    if tag == "dict":
        return {decode(key): decode(each) for key, each in value}
    found = find_class(tagged["class"])
    if tag == "enum" and issubclass(found, Enum):
        return found[value]
    if tag == "exception" and is_exception_class(found):
        return found
    if tag == "dataclass" and dataclasses.is_dataclass(found):
        return _dataclass(found, {name: decode(each) for name, each in value.items()})
    raise Opaque(f"tag {tag!r}")


def is_exception_class(value: Any) -> bool:
    """Whether it is what an `except` takes."""
    return isinstance(value, type) and issubclass(value, BaseException)


def class_name(kind: type) -> str:
    """`module:qualified.name`, as `find_class` takes it."""
    return f"{kind.__module__}:{kind.__qualname__}"


def find_class(name: str) -> type:
    """A class of a module that is already imported; a journal can never make us import one. Raises Opaque."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise Opaque(f"the class {name} is not loaded")
    return found


def _dataclass(kind: type, values: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
