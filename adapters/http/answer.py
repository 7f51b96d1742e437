"""Answer, what a client is told; and its usual form, JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from actionbus.core.values.payload import shown_text

_ALWAYS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Answers are for one caller at one time, and are what they say they are."""


class Stream(Protocol):
    """Bytes, as WSGI takes them."""

    def __iter__(self) -> Iterator[bytes]:
        """The body bit by bit, as it comes."""

    def close(self) -> None:
        """Give back what it holds; any number of times."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, to be made one of the framework's."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in _ALWAYS.items():
            self.headers.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A response whose body comes bit by bit; `chunks` has a `close` that is called when nobody takes any more."""

    chunks: Stream
    content_type: str
    headers: dict[str, str]
    status: int = 200

    def __post_init__(self) -> None:
        for name, value in _ALWAYS.items():
            self.headers.setdefault(name, value)


def shown(value: Any, status: int = 200, **headers: str) -> Answer:
    """A value as JSON; a header's name with underscores for dashes."""
    named = {name.replace("_", "-"): told for name, told in headers.items()}
    return Answer(status, shown_text(value).encode(), headers=named)
