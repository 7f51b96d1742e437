"""One position of the past within one snapshot of the database: the tables that were recorded by then, and changes.

Used by `core.history.history`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from actionbus.core.errors import HistoryArchived, HistoryError
from actionbus.core.history.answers import Basis, Gap, TableBasis
from actionbus.core.history.doubts import Doubts, doubts_of
from actionbus.core.history.fold import BrokenRow, Fold, as_of, by_table, chained
from actionbus.core.history.images import Cut, Image, Images, Row
from actionbus.core.history.recorded import RecordedTable
from actionbus.core.history.shapes import Shape, TableWanted
from actionbus.core.history.unseen import RowHistory, row_history
from actionbus.core.storage.archives import Archive
from actionbus.core.values.change import Change, Columns, Source, Who

OPERATIONS: Final = {"i": "insert", "u": "update", "d": "delete", "b": "baseline", "!": "gap"}


class OpenedPosition:
    """One position within one snapshot."""

    def __init__(self, images: Images, shapes: Sequence[Shape], cut: Cut, wanted: Sequence[TableWanted] = ()) -> None:
        self._wanted = wanted
        self.images = images
        self.shapes = shapes
        self.cut = cut
        self._by_table = by_table(shapes)
        recorded = (RecordedTable.of(images, found, cut) for found in self._by_table.values())
        self.tables = [each for each in recorded if each is not None]

    def at(self, position: int) -> OpenedPosition:
        """Another position in the same snapshot."""
        return OpenedPosition(self.images, self.shapes, self.images.cut(position, is_end=False))

    def all_of(self, recorded: RecordedTable) -> list[Shape]:
        """All shapes of its table, forgotten ones too."""
        return self._by_table[recorded.name]

    def shapes_of(self, table: str) -> list[Shape]:
        """All shapes of the tables of that name; none if there was none."""
        return [shape for name in self._named(table) for shape in self._by_table[name]]

    def all_shapes(self) -> list[Shape]:
        """All shapes of all tables."""
        return [shape for shapes in self._by_table.values() for shape in shapes]

    def _named(self, table: str) -> list[str]:
        """The whole names of the tables that may be meant."""
        if table in self._by_table:
            return [table]
        return [name for name, shapes in self._by_table.items() if shapes[0].bare == table]

    def beginnings(self) -> dict[str, Shape]:
        """The first shape of each table."""
        return {name: shapes[0] for name, shapes in self._by_table.items()}

    def names(self) -> str:
        """The tables that there are, for people."""
        return ", ".join(self._by_table) or "none yet; `actionbus history install` begins"

    def find(self, name: str) -> RecordedTable | None:
        """A table by its whole name, if its history had begun."""
        return next((each for each in self.tables if each.name == name), None)

    def chosen(self, table: str | None) -> list[RecordedTable]:
        """The table asked for, or all."""
        return self.tables if table is None else [self.one(table)]

    def one(self, table: str) -> RecordedTable:
        """The table asked for. Raises HistoryError."""
        named = self._named(table)
        if not named:
            raise HistoryError(f"no table {table!r} was ever recorded; recorded are: {self.names()}")
        if len(named) > 1:
            raise HistoryError(f"{table!r} may be {' or '.join(named)}; say which")
        if (found := self.find(named[0])) is None:
            first = self._by_table[named[0]][0]
            self.require_told(named)
            raise HistoryError(
                f"the history of {named[0]} begins at {first.since:%Y-%m-%d %H:%M:%S} UTC, after position "
                f"{self.cut.position}: nothing is known of it before"
            )
        return found

    def require_told(self, tables: Iterable[str] | None = None) -> None:
        """Raises HistoryArchived where the history of one of these, or of any, was pruned beyond this position."""
        for name in self._by_table if tables is None else tables:
            if (gone := self.what_went([name])) is not None and self.cut.position < gone.upto:
                raise HistoryArchived(gone.where())

    def begins(self, tables: Iterable[str]) -> int:
        """The first position at which the rows of all these tables can be told, as far as some were pruned."""
        gone = self.what_went(tables)
        return gone.upto if gone else 0

    def what_went(self, tables: Iterable[str]) -> Archive | None:
        """The last archive, or pruning, that took images of these tables: nobody here knows what they were before."""
        found = (self.images.archived(each.shape) for name in tables for each in self._by_table[name])
        return max((each for each in found if each), key=lambda each: each.upto, default=None)

    def require_at_most(self, most: int, recorded: RecordedTable, key: Any) -> None:
        """Raises HistoryError if a row was changed more often, before its changes are read."""
        parts = recorded.parts_of(key)
        try:
            count = self.images.count_of_row(recorded.shapes, parts, self.cut, most)
        except ValueError as error:
            raise recorded.no_key(parts, error) from None
        if count > most:
            raise HistoryError(f"this row of {recorded.name} was changed more than {most} times: more than is read")

    def of_row(self, recorded: RecordedTable, key: Any) -> RowHistory:
        """What became of one row. Raises HistoryError."""
        parts = recorded.parts_of(key)
        try:
            images = self.images.of_row(recorded.shapes, parts, recorded.since_image, self.cut)
        except ValueError as error:
            raise recorded.no_key(parts, error) from None
        return row_history(Fold(recorded.shapes, self.images.values), images, self.changes_of)

    def changes_of(self, images: Sequence[Image]) -> list[Change]:
        """Images as changes, in the order of their records, those of one row within one as they followed."""
        last = 2**63
        ordered = sorted(images, key=lambda each: (each.position or last, each.image))
        sources = self.images.sources([each.position for each in ordered if each.position is not None])
        known = {shape.shape: shape for shape in self.shapes}
        placed: list[Image] = []
        for _, of_record in groupby(ordered, key=lambda each: each.position):
            group = list(of_record)
            keyed = {(known[each.shape].table_name, each.key) for each in group}
            placed += chained(group) if len(keyed) == 1 and len(group) > 1 else group
        under = {shape: self._now(known[shape]) for shape in {each.shape for each in placed}}
        told = self._columns_of(placed, known, under)
        return [
            self._change(
                image,
                under[image.shape],
                None if image.before is None else next(told[image.shape]),
                None if image.after is None else next(told[image.shape]),
                sources,
            )
            for image in placed
        ]

    def _now(self, shape: Shape) -> Shape:
        """What its table's rows are told as."""
        recorded = self.find(shape.table_name)
        return recorded.shape if recorded else shape

    def _columns_of(
        self, images: Sequence[Image], known: Mapping[int, Shape], under: Mapping[int, Shape]
    ) -> dict[int, Iterator[Columns]]:
        """By shape, all rows that the images hold, in their order: decoded together, which is quicker."""
        rows: dict[int, list[Row]] = {}
        for image in images:
            rows.setdefault(image.shape, []).extend(row for row in (image.before, image.after) if row is not None)
        return {
            shape: iter(as_of(under[shape], known[shape], self.images.values(known[shape], held)))
            for shape, held in rows.items()
        }

    def _change(
        self, image: Image, under: Shape, before: Columns | None, after: Columns | None, sources: Mapping[int, Source]
    ) -> Change:
        kept = self.images.kept(image)
        source = kept.source if kept else sources.get(image.position) if image.position is not None else None
        is_own = source is not None and source.kind != "bypass" and source.action_id.hex == image.claimed
        claimed = None if is_own else image.claimed
        who = Who(source, image.at or (source.at if source else None), claimed)
        whole = after or before or {}
        key = {name: whole[name] for name in under.key if name in whole}
        return Change(under.table_name, OPERATIONS[image.operation], before, after, who, key)

    def bases_of(self, tables: Sequence[RecordedTable], broken: Sequence[Sequence[BrokenRow]] = ()) -> list[TableBasis]:
        """How far the history of each table reaches, and what is missing in it; `broken` is by table, or nothing."""
        doubts = doubts_of(self.images, [self.all_of(each) for each in tables], self.cut)
        return [
            self._basis_of(each, own, found)
            for each, own, found in zip(tables, broken or [()] * len(tables), doubts, strict=True)
        ]

    def _basis_of(self, recorded: RecordedTable, broken: Sequence[BrokenRow], doubts: Doubts) -> TableBasis:
        shape, gaps = recorded.shape, []
        for each in broken:
            (columns,) = recorded.columns_of(each.rows[0].shape, [each.rows[0].row])
            key = {name: columns[name] for name in shape.key}
            gaps.append(
                Gap(
                    recorded.name, key, each.position, "it was changed unseen: its images do not follow from each other"
                )
            )
        for image in self.images.unrecorded(recorded.shapes, recorded.since_image, self.cut):
            gaps.append(Gap(recorded.name, {}, image.position, "a change could not be recorded"))
        return TableBasis(
            recorded.name,
            recorded.since,
            recorded.since_position,
            shape.columns,
            shape.withheld,
            tuple(gaps),
            *doubts,
            shape.key,
        )

    def basis(self, tables: Sequence[TableBasis], *, everything: bool = False) -> Basis:
        """What an answer about these tables rests on."""
        begun = {each.name for each in self.tables}
        missing = [name for name in self._by_table if name not in begun] if everything else []
        missing += [each.name for each in self._wanted if everything and not self._was_recorded(each)]
        bypasses = self.images.count_bypasses(self.cut)
        waiting = self.images.waiting() if self.cut.is_end else 0
        return Basis(self.cut.position, tuple(tables), tuple(missing), bypasses, waiting)

    def _was_recorded(self, wanted: TableWanted) -> bool:
        return bool(self._named(f"{wanted.schema}.{wanted.name}" if wanted.schema else wanted.name))
