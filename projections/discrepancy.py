"""Discrepancy, a document that is not as the journal has it, and how documents are told apart. Verification uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from actionbus.projections.store import StoredDocument

_PAGE: Final = 500
_PAGE_BYTES: Final = 16_000_000
"""Documents compared at a time."""


class Discrepancy(NamedTuple):
    """A document that is not as the journal has it. A side is None where there is no document."""

    key: str
    kind: Literal["missing", "surplus", "differing", "ahead"]
    """`ahead`: newer than all that was ever written from here."""
    version: int
    """Of what is stored; 0 if nothing is."""
    stored: dict[str, Any] | None
    folded: dict[str, Any] | None


def wrong(
    stored: Mapping[str, StoredDocument], expected: Mapping[str, dict[str, Any] | None], written_to: int
) -> list[Discrepancy]:
    """Those that are not as expected, or newer than all that was written."""
    found: list[Discrepancy] = []
    for key, wanted in expected.items():
        there = stored.get(key)
        version, document = (there.version, there.document) if there else (0, None)
        if version > written_to:
            found.append(Discrepancy(key, "ahead", version, document, wanted))
        elif not is_same(text_of(document), text_of(wanted)):
            kind: Any = "missing" if document is None else "surplus" if wanted is None else "differing"
            found.append(Discrepancy(key, kind, version, document, wanted))
    return found


def pages(found: Iterable[tuple[str, StoredDocument]]) -> Iterator[dict[str, tuple[int, bytes | None]]]:
    """Versions and texts by key, some at a time: so many, or of so many bytes."""
    page: dict[str, tuple[int, bytes | None]] = {}
    size = 0
    for key, stored in found:
        page[key] = weighed(stored)
        size += len(page[key][1] or b"")
        if len(page) >= _PAGE or size >= _PAGE_BYTES:
            yield page
            page, size = {}, 0
    if page:
        yield page


def weighed(stored: StoredDocument) -> tuple[int, bytes | None]:
    return stored.version, text_of(stored.document)


def text_of(document: Mapping[str, Any] | None) -> bytes | None:
    return None if document is None else orjson.dumps(document)


def is_same(one: bytes | None, other: bytes | None) -> bool:
    """Whether two JSON texts are of one document: as JSON, in which 1, 1.0 and true are three things."""
    if one is None or other is None or one == other:
        return one == other
    in_order = orjson.OPT_SORT_KEYS
    return orjson.dumps(orjson.loads(one), option=in_order) == orjson.dumps(orjson.loads(other), option=in_order)
