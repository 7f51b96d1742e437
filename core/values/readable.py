"""Errors by field as they are kept and sent: JSON of text alone and of a bounded size, whatever a handler made them of.

Called by `core.errors` for every InvalidArguments that is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

WHOLE_ACTION = "_action"
"""The key in `InvalidArguments.errors` for messages about the action as a whole."""
_SIZE: Final = 20_000
"""Characters of all errors together."""
_LONGEST: Final = 2_000
"""Characters of one message."""
_LONGEST_NAME: Final = 200
_DEEPEST: Final = 40
"""More than arguments may be deep, with an index for each list."""
_EACH: Final = 4
"""Characters that any part counts for besides its own."""


def readable(errors: Any) -> dict[str, Any]:
    """The errors with text for every key and message; of what is too much, how many more there are. What
    is no mapping is about the action as a whole."""
    return _Reading().mapping(errors if isinstance(errors, Mapping) else {WHOLE_ACTION: [errors]}, 1)


class _Reading:
    def __init__(self) -> None:
        self._left = _SIZE

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for key, each in islice(value.items(), self._room(len(value))):
            if self._left <= 0:
                break
            name = self._text(key, _LONGEST_NAME)
            told[name if name not in told else f"{name} ({type(key).__name__}, {len(told)})"] = self._any(each, depth)
        if len(told) < len(value):
            told["…"] = [_more(len(value) - len(told))]
        return told

    def _list(self, value: Iterable[Any], size: int, depth: int) -> list[Any]:
        told: list[Any] = []
        for each in islice(value, self._room(size)):
            if self._left <= 0:
                break
            told.append(self._any(each, depth))
        return told if len(told) == size else [*told, _more(size - len(told))]

    def _any(self, value: Any, depth: int) -> Any:
        self._left -= _EACH
        try:
            if depth < _DEEPEST and isinstance(value, Mapping):
                return self.mapping(value, depth + 1)
            if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
                return self._list(value, len(value), depth + 1)
        except Exception:  # a container of the application's own, which cannot be walked
            return f"({type(value).__name__})"
        return self._text(value, _LONGEST)

    def _text(self, value: Any, longest: int) -> str:
        text = words(value)
        text = text if len(text) <= longest else text[: longest - 1] + "…"
        self._left -= len(text)
        return text

    def _room(self, size: int) -> int:
        return min(size, self._left // _EACH + 1)


def words(value: Any) -> str:
    """`str(value)` as any text column can hold it; its type in brackets where it has none."""
    try:
        text = str.__str__(value) if isinstance(value, str) else _said(value)
        text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    except Exception:
        return f"({type(value).__name__})"
    return text


def _said(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return f"({type(value).__name__})"  # deeper than any error: it may hold itself
    return str(value) or f"({type(value).__name__})"


def _more(count: int) -> str:
    return f"… and {count} more"
