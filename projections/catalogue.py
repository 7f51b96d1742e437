"""Catalogue: an application's projections and the indices that there are of each. Used by projector and operations.

An index is ours if what was stored with it when it was made names our journal and the projection. Nothing else is ever
removed, nor is its alias moved unasked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from actionbus.core import Bus
from actionbus.projections.errors import IndexMissing, NeedsRebuild, NotOurs, UnknownProjection
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.projection import Projection
from actionbus.projections.store import IndexInfo, Store, index_name


class Catalogue:
    """Which projections there are, and which indices; makes new ones, and removes ours."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus, self.store = bus, store
        self.ledger = Ledger(bus.backend)
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

        The first index is served at once, while it fills: there was nothing to be seen before it. Cut off anywhere, the
        next call goes on: rows come first, so that no index is without; the alias then says which index is served, and
        that it is built. Raises NeedsRebuild if readers see an index that this database knows nothing of.
        """
        rows = self.ledger.checkpoints(projection.name)
        served = self.store.aliased(projection.name)
        if served is None:
            self._make_first(projection, rows, parts)
        elif served not in {row.index_name for row in rows}:
            raise self.stranger(projection, served)
        elif not all(row.built for row in rows if row.index_name == served):
            self.ledger.set_built(served)
        for row in self.ledger.checkpoints(projection.name):
            if row.built and row.version == projection.version and row.slices != parts:
                self.ledger.cut(row.index_name, parts)
        return self.ledger.checkpoints(projection.name)

    def _make_first(self, projection: type[Projection], rows: Sequence[Checkpoint], parts: int) -> None:
        """Make the first index, or go on with one whose making was cut off; that of an older version is begun anew."""
        if any(row.built or row.position or row.writing_to for row in rows):
            return
        for stale in {row.index_name for row in rows if row.version != projection.version}:
            self.remove(projection, stale)
        self.ledger.add(new_name(projection), projection.name, projection.version, parts, first=True)
        names = {row.index_name for row in self.ledger.checkpoints(projection.name)}
        if len(names) == 1:
            first = names.pop()
            self.create_index(projection, first, loading=False)
            self.store.point_alias(projection.name, first)
            self.ledger.set_built(first)

    def stranger(self, projection: type[Projection], served: str) -> NeedsRebuild:
        """Why an index that readers see and this database knows nothing of is not fed."""
        name = projection.name
        if served == name:
            return NotOurs(
                f"{self.store.describe()} has an index that is itself called {name}, where readers of this projection "
                "look, so that its name cannot be taken over. Give this application a prefix "
                "(ACTIONBUS_ELASTICSEARCH_PREFIX) of its own",
                {"rebuild": True},
            )
        seen = f"readers of {name} see the index {served}, which this database knows nothing of"
        if self.is_ours(projection, served):
            return NeedsRebuild(
                f"{seen}: it was made anew, or restored from an older state; "
                f"run `actionbus projections rebuild {name}`",
                {"rebuild": True},
            )
        return NotOurs(
            f"{seen}: it is of another journal, such as that of another application or environment. Give this one a "
            f"prefix (ACTIONBUS_ELASTICSEARCH_PREFIX) of its own, or take the name away from whoever reads it now: "
            f"`actionbus projections rebuild {name} --take-over`",
            {"rebuild": True},
        )

    def is_ours(self, projection: type[Projection], index: str) -> bool:
        """Whether an index is of our journal and the projection; not if it is not there."""
        try:
            info = self.store.info(index)
        except IndexMissing:
            return False
        return (info.projection, info.journal) == (projection.name, self._bus.journal.identity())

    def remove(self, projection: type[Projection], index: str) -> bool:
        """Forget an index, and remove it from the store if it is ours; whether it was."""
        ours = self.is_ours(projection, index)
        self.ledger.remove(index)
        if ours:
            self.store.delete_index(index)
        return ours

    def create(self, projection: type[Projection], parts: int) -> str:
        """A new index beside those there are; its rows first, so that no index is without."""
        index = new_name(projection)
        self.ledger.add(index, projection.name, projection.version, parts, first=False)
        return index

    def create_index(self, projection: type[Projection], index: str, *, loading: bool) -> None:
        """The index in the store, unless it is there."""
        info = IndexInfo(index, projection.name, projection.version, self._bus.journal.identity())
        self.store.create_index(info, projection.mappings, projection.settings, loading=loading)

    def outdated(self, projection: type[Projection]) -> NeedsRebuild:
        """Why a projection is not fed, although it has an index."""
        rows = self.ledger.checkpoints(projection.name)
        versions = sorted({row.version for row in rows if row.built})
        at = f"is at version {', '.join(map(str, versions))}" if versions else "has no finished index"
        return NeedsRebuild(
            f"{projection.name} {at} and the code says {projection.version}; "
            f"run `actionbus projections rebuild {projection.name}`",
            {"rebuild": True},
        )

    def waiting_for(self) -> list[str]:
        """The transactions that hold a hole at the journal's settled end."""
        return self._bus.journal.waiting_for()


def new_name(projection: type[Projection]) -> str:
    """A name that no index has, in the form that is ours."""
    stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    return index_name(projection.name, projection.version, f"{stamp}-{secrets.token_hex(3)}")
