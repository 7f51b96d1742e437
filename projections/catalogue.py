"""Catalogue: an application's projections and the indices that there are of each. Used by projector and operations."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from core import Bus
from projections.errors import NeedsRebuild, UnknownProjection
from projections.ledger import Checkpoint, Ledger
from projections.projection import Projection
from projections.store import IndexInfo, Store


class Catalogue:
    """Which projections there are, and which indices; makes new ones."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus, self.store = bus, store
        self.ledger = Ledger(bus.engine, bus.backend.schema)
        declared: Sequence[Any] = bus.application.projections
        self.projections: dict[str, type[Projection]] = {projection.name: projection for projection in declared}

    def get(self, name: str) -> type[Projection]:
        """The projection called `name`. Raises UnknownProjection."""
        try:
            return self.projections[name]
        except KeyError:
            known = ", ".join(sorted(self.projections)) or "none"
            raise UnknownProjection(f"there is no projection {name!r}; there are: {known}") from None

    def chosen(self, names: Iterable[str] | None) -> list[type[Projection]]:
        """Those named, or all."""
        return list(self.projections.values()) if names is None else [self.get(name) for name in names]

    def ensure(self, projection: type[Projection], parts: int = 1) -> list[Checkpoint]:
        """The projection's rows, after making its first index if it has none.

        The first index is served at once, while it fills: there was nothing to be seen before it. Raises NeedsRebuild
        if readers see an index that this database knows nothing of.
        """
        rows = self.ledger.checkpoints(projection.name)
        served = self.store.aliased(projection.name)
        if served is not None and served not in {row.index_name for row in rows}:
            raise NeedsRebuild(
                f"readers of {projection.name} see the index {served}, which this database knows nothing of: it was "
                f"made anew, or restored from an older state; run `actionbus projections rebuild {projection.name}`",
                {"rebuild": True},
            )
        if not rows:
            self.ledger.add(self._new_name(projection), projection.name, projection.version, parts, first=True)
            rows = self.ledger.checkpoints(projection.name)
        if served is None and (unfinished := self._unfinished_first(projection, rows)):
            self.create_index(projection, unfinished, loading=False)
            self.store.point_alias(projection.name, unfinished)
            self.ledger.set_built(unfinished)
        for row in rows:
            if row.built and row.version == projection.version and row.slices != parts:
                self.ledger.cut(row.index_name, parts)
        return self.ledger.checkpoints(projection.name)

    def _unfinished_first(self, projection: type[Projection], rows: Sequence[Checkpoint]) -> str | None:
        """The first index, if its making was cut off: nothing was absorbed yet, and there is no other."""
        names = {row.index_name for row in rows}
        untouched = all(not row.built and row.position == row.writing_to == 0 for row in rows)
        return names.pop() if len(names) == 1 and untouched and rows[0].version == projection.version else None

    def create(self, projection: type[Projection], parts: int) -> str:
        """A new index beside those there are; its rows first, so that no index is without."""
        index = self._new_name(projection)
        self.ledger.add(index, projection.name, projection.version, parts, first=False)
        return index

    def _new_name(self, projection: type[Projection]) -> str:
        stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        return f"{projection.name}-v{projection.version}-{stamp}-{secrets.token_hex(3)}"

    def create_index(self, projection: type[Projection], index: str, *, loading: bool) -> None:
        """The index in the store, unless it is there."""
        info = IndexInfo(index, projection.name, projection.version, self._bus.journal.identity())
        self.store.create_index(info, projection.mappings, projection.settings, loading=loading)

    def outdated(self, projection: type[Projection]) -> NeedsRebuild:
        """Why a projection is not fed, although it has an index."""
        versions = sorted({row.version for row in self.ledger.checkpoints(projection.name) if row.built})
        return NeedsRebuild(
            f"{projection.name} is at version {', '.join(map(str, versions))} and the code says {projection.version}; "
            f"run `actionbus projections rebuild {projection.name}`",
            {"rebuild": True},
        )

    def waiting_for(self) -> list[str]:
        """The transactions that hold a hole at the journal's settled end."""
        return self._bus.journal.waiting_for()
