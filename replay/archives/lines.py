"""The lines of an exported journal's file, as whoever reads one gets them: imports, archives, attaching, erasing.

A file may come from anywhere. So each line is looked at before anybody takes it for what it says to be.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from actionbus.core.storage.privacy_ddl import DECLARED, ERASURES, KEYS
from actionbus.core.values import payload
from actionbus.replay.errors import ReplayError

FORMAT: Final = 2
_READ: Final = (1, FORMAT)
"""In format 1 there was no row history."""
_PRIVACY: Final = frozenset({KEYS, DECLARED, ERASURES})
Kind = Literal["record", "privacy", "shape", "image"]


def header(path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    head: dict[str, Any] = next(lines_of(path))
    return head


def lines_of(path: Path) -> Iterator[Any]:
    """What a file says of itself, and then its lines, decoded. Raises ReplayError for what is no such file."""
    number = 1
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            head = payload.loads(file.readline() or "null")
            if not isinstance(head, dict) or head.get("format") not in _READ:
                raise ReplayError(f"{path} is not an exported journal in a format that this version reads ({_READ})")
            if not isinstance(head.get("journal"), str) or not isinstance(head.get("dialect"), str):
                raise ReplayError(f"{path} is not an exported journal: it does not say of which journal it is")
            yield head
            for number, text in enumerate(file, 2):
                line = payload.loads(text)
                if _kind(line) is None:
                    raise ReplayError(
                        f"{path} is not an exported journal: line {number} is nothing that such a file has"
                    )
                yield line
    except (OSError, EOFError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ReplayError(f"{path} is not an exported journal, or was cut off, at line {number}: {error}") from error


def kind_of(line: Any) -> Kind:
    """What a line after the first is about."""
    kind = _kind(line)
    assert kind is not None, "it was read by `lines_of`"
    return kind


def _kind(line: Any) -> Kind | None:
    match line:
        case [image, shape, *_] if type(image) is int and type(shape) is int:
            return "image"
        case {"position": position}:
            return "record" if type(position) is int and position > 0 else None
        case {"privacy": table}:
            return "privacy" if isinstance(table, str) and table in _PRIVACY else None
        case {"shape": shape}:
            return "shape" if type(shape) is int else None
    return None


class NumberedLines(Iterator[Any]):
    """Lines, counted as they are read, so that it can be told near which of them something is wrong."""

    def __init__(self, path: Path, progress: Callable[[], None] | None) -> None:
        self._lines = lines_of(path)
        self._progress = progress
        self.head: dict[str, Any] = next(self._lines)
        self.number = 1

    def __next__(self) -> Any:
        line = next(self._lines)
        self.number += 1
        if self._progress:
            self._progress()
        return line
