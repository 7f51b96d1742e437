"""Erases one subject from the row history: the work of the action `erase_subject`, for which `Bus.erase` calls.

Each version of a row is decided by itself: its personal values go if it names the subject. A version that names nobody
belongs to every subject that its row, by its key, ever named. See docs/decisions/0019-erasure.md.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from actionbus.core.history.decoding import ErasedValue
from actionbus.core.history.shapes import Shape

Value = Any
"""What a field of an image holds: its text on PostgreSQL, what was stored on SQLite; an Erased where it was erased."""


class ImageSides(NamedTuple):
    """A row before and after a change, as an image holds it; a side that is not there is None."""

    image: int
    key: Any
    before: Sequence[Value] | None
    after: Sequence[Value] | None


class SubjectColumns(NamedTuple):
    """The columns of a shape that hold data of one subject; by their places."""

    shape: Shape
    subject: int | None
    """Where the subject is named; None if the shape has no such column."""
    places: tuple[int, ...]


class MarkedImage(NamedTuple):
    """An image, and which of its sides hold values that are to go."""

    version: ImageSides
    before: bool
    after: bool


class ErasedImages(ABC):
    """Images of one database, as erasing reads and changes them; one of `databases.Database.store` answers."""

    @abstractmethod
    def wait_for_writers(self, shapes: Sequence[Shape]) -> None:
        """Wait until whoever writes these tables now has ended. Raises JournalUnavailable after a minute."""

    @abstractmethod
    def naming(self, part: SubjectColumns, subjects: Collection[str]) -> Iterator[ImageSides]:
        """Images of a shape that may name one of these; what they are is looked at by the caller."""

    @abstractmethod
    def of_keys(self, shape: Shape, keys: Collection[Any]) -> Iterator[ImageSides]:
        """All images of these rows."""

    @abstractmethod
    def erase(self, part: SubjectColumns, marked: Sequence[MarkedImage]) -> int:
        """Put stand-ins in place of these values; how many images were changed."""

    @abstractmethod
    def standing(self, table: str, subject: str, columns: Iterable[str], subjects: Collection[str]) -> int:
        """How many rows of the application's table hold personal values of one of these subjects."""

    @abstractmethod
    def forget(self, subject: str) -> int:
        """Delete the keys of a subject's arguments; how many there were."""

    @abstractmethod
    def close(self) -> None:
        """From here on images are what they were: append-only."""


def receipt_for(subject: str) -> tuple[str, str]:
    """A receipt, which nobody keeps but who asked, and what the record has: sha256 over both."""
    receipt = secrets.token_hex(32)
    return receipt, commitment(receipt, subject)


def commitment(receipt: str, subject: str) -> str:
    """What the record of an erasure says of its subject."""
    return hashlib.sha256(bytes.fromhex(receipt) + subject.encode("utf-8", "surrogatepass")).hexdigest()


def spellings(subject: str) -> set[str]:
    """How a subject may stand in a column: as it was given; an UUID in each of the ways in which one is stored."""
    found = {subject}
    with suppress(ValueError):
        found |= {str(UUID(subject)), UUID(subject).hex, UUID(subject).hex.upper(), str(UUID(subject)).upper()}
    return found


def erase(
    store: ErasedImages, shapes: Mapping[str, Sequence[Shape]], personal: Mapping[str, Mapping[str, str]], subject: str
) -> dict[str, Any]:
    """Erase a subject in every table with personal columns; what was done, and what stands in the tables still.

    `personal` says, by table and column, which column names the subject.
    """
    wanted = spellings(subject)
    tables = {name: each for name, each in shapes.items() if personal.get(name)}
    store.wait_for_writers([each[-1] for each in tables.values()])
    images: dict[str, int] = {}
    standing: dict[str, int] = {}
    for name, of_table in tables.items():
        for named, columns in by_naming(personal[name]).items():
            if count := _erase(store, [part_of(of_table, each, named, columns) for each in of_table], wanted):
                images[name] = images.get(name, 0) + count
            if there := store.standing(name, named, columns, wanted):
                standing[name] = standing.get(name, 0) + there
    keys = store.forget(subject)
    store.close()
    return {"images": images, "standing": standing, "keys": keys}


def by_naming(personal: Mapping[str, str]) -> dict[str, list[str]]:
    """A table's personal columns by the column that names their subject."""
    found: dict[str, list[str]] = {}
    for column, named in personal.items():
        found.setdefault(named, []).append(column)
    return found


def part_of(shapes: Sequence[Shape], shape: Shape, named: str, columns: Iterable[str]) -> SubjectColumns:
    """What of a shape is personal to whom `named` names; `shapes` are all of its table."""
    places = {place for each in columns for place in [_place(shapes, shape, each)] if place is not None}
    return SubjectColumns(shape, _place(shapes, shape, named), tuple(sorted(places)))


def _place(shapes: Sequence[Shape], shape: Shape, name: str) -> int | None:
    """Where a shape has a column; by its number too, so that one which was renamed is found."""
    if name in shape.columns:
        return shape.columns.index(name)
    numbers = {
        each.numbers[each.columns.index(name)]
        for each in shapes
        if each.numbers and each.relation == shape.relation and name in each.columns
    }
    return next((place for place, number in enumerate(shape.numbers) if number in numbers), None)


def _erase(store: ErasedImages, parts: Sequence[SubjectColumns], wanted: Collection[str]) -> int:
    named: set[Any] = set()
    found: list[tuple[SubjectColumns, dict[int, ImageSides]]] = []
    for part in parts:
        versions: dict[int, ImageSides] = {}
        for version in store.naming(part, wanted) if part.subject is not None else ():
            if names(part, version.before, wanted) or names(part, version.after, wanted):
                versions[version.image] = version
                named |= {version.key} if part.shape.key else set()
        found.append((part, versions))
    count = 0
    for part, versions in found:
        if part.shape.key and named:
            versions |= {each.image: each for each in store.of_keys(part.shape, named)}
        marked = [_marked(part, each, named, wanted) for each in versions.values()]
        if kept := [each for each in marked if each.before or each.after]:
            count += store.erase(part, kept)
    return count


def _marked(part: SubjectColumns, version: ImageSides, named: Collection[Any], wanted: Collection[str]) -> MarkedImage:
    is_of_row = version.key in named if part.shape.key else False
    before, after = (
        row is not None
        and holds_values(part, row)
        and (names(part, row, wanted) or (is_of_row and names_nobody(part, row)))
        for row in (version.before, version.after)
    )
    return MarkedImage(version, before, after)


def holds_values(part: SubjectColumns, row: Sequence[Value]) -> bool:
    """Whether a row has personal values that are not erased."""
    return any(row[place] is not None and not isinstance(row[place], ErasedValue) for place in part.places)


def names(part: SubjectColumns, row: Sequence[Value] | None, wanted: Collection[str]) -> bool:
    """Whether a row is of one of these subjects."""
    return row is not None and part.subject is not None and _text(row[part.subject]) in wanted


def names_nobody(part: SubjectColumns, row: Sequence[Value]) -> bool:
    """Whether a row does not say whose it is."""
    return part.subject is None or row[part.subject] is None


def _text(value: Value) -> str | None:
    if isinstance(value, bytes) and len(value) == 16:
        return str(UUID(bytes=value))
    return None if value is None else str(value)
