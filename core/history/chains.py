"""Stretches of keys, of what PostgreSQL's cursor gives of their images. Used by `core.history.images_postgresql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actionbus.core.history.images import Link, Row, Stretch


class Chains:
    """Makes them, piece by piece."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, Row | None]] = {}
        """The key of which an image was open, and the last one may be still to come."""
        self._links: list[tuple[str, Link]] = []

    def stretch(self, rows: Sequence[Sequence[Any]]) -> Stretch:
        """Of the next rows: a key's last image, or one that is open."""
        keys, shapes, texts, opens = zip(*rows, strict=True)
        if not self._open and not any(opens):
            return Stretch(keys, shapes, texts)
        last, links = self._open, self._links
        for key, shape, text, is_open in rows:
            if is_open:
                left, was, held, taken = is_open
                links.append((key, Link(was and int(was), held, shape, taken)))
            last[key] = shape, left if is_open else text
        kept = keys[-1]
        self._open = {kept: last.pop(kept)} if opens[-1] else {}
        self._links = [each for each in links if each[0] == kept] if self._open else []
        return _stretch(last, links[: len(links) - len(self._links)])

    def rest(self) -> Stretch:
        """Of what was open when there was no more."""
        return _stretch(self._open, self._links)


def _stretch(last: Mapping[str, tuple[int, Row | None]], links: Sequence[tuple[str, Link]]) -> Stretch:
    return Stretch(list(last), [shape for shape, _ in last.values()], [row for _, row in last.values()], links)
