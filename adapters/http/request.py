"""Request, what a client asked, as every framework's adapter hands it to this layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body. Headers have lower-case names, repeated ones joined by commas."""

    method: str
    path: str
    headers: dict[str, str]
    query: tuple[tuple[str, str], ...] = ()
    root: str = ""
    """Where the API is mounted, such as `/api/v1`."""

    @classmethod
    def of(
        cls, method: str, path: str, headers: Iterable[tuple[str, str]], query: Iterable[tuple[str, str]], root: str
    ) -> Request:
        """From pairs, as frameworks give them."""
        joined: dict[str, list[str]] = {}
        for name, value in headers:
            joined.setdefault(name.lower(), []).append(value)
        return cls(method, path, {name: ", ".join(values) for name, values in joined.items()}, tuple(query), root)

    def header(self, name: str) -> str:
        """A header's value, or an empty text."""
        return self.headers.get(name.lower(), "")

    def all(self, name: str) -> list[str]:
        """All values of a parameter of the query."""
        return [value for each, value in self.query if each == name]

    def first(self, name: str) -> str | None:
        """The first value of a parameter of the query, or None."""
        return next((value for each, value in self.query if each == name), None)
