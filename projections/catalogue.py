"""Catalogue: an application's projections and the indices that there are of each. Used by projector and operations.

An index is ours if what was stored with it when it was made names our journal, the projection and this incarnation of
the database. Nothing else is ever removed, nor is its alias moved unasked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from actionbus.core import Bus
from actionbus.projections.belonging import not_of_this_database
from actionbus.projections.errors import (
    IndexMissing,
    NeedsRebuild,
    NotOurs,
    ProjectionStopped,
    StoreRefused,
    UnknownProjection,
)
from actionbus.projections.fed import is_name
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.projection import Projection
from actionbus.projections.store import IndexInfo, Store, index_name
from actionbus.projections.subscription import Subscription
from actionbus.projections.verified import Verifications


class Catalogue:
    """Which projections there are, and which indices; makes new ones, and removes ours."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus, self.store = bus, store
        self.ledger, self.verifications = Ledger(bus.backend), Verifications(bus.backend)
        declared: Sequence[Any] = bus.application.projections
        self.projections: dict[str, type[Projection]] = {projection.name: projection for projection in declared}
        followers: Sequence[Any] = bus.application.subscriptions
        self.subscriptions: dict[str, type[Subscription]] = {each.name: each for each in followers}

    def get(self, name: str) -> type[Projection]:
        """The projection called `name`. Raises UnknownProjection."""
        try:
            return self.projections[name]
        except KeyError:
            known = ", ".join(sorted(self.projections)) or "none"
            raise UnknownProjection(f"there is no projection {name!r}; there are: {known}") from None

    def left(self) -> dict[str, list[Checkpoint]]:
        """The rows of projections that this application has not, by their names: it had them, or another has."""
        found: dict[str, list[Checkpoint]] = {}
        for row in self.ledger.checkpoints():
            if row.projection not in self.projections and is_name(row.projection):  # a subscription's is none
                found.setdefault(row.projection, []).append(row)
        return found

    def chosen(self, names: Iterable[str] | None) -> tuple[list[type[Projection]], list[type[Subscription]]]:
        """The projections and subscriptions named, or all. Raises UnknownProjection."""
        if names is None:
            return list(self.projections.values()), list(self.subscriptions.values())
        asked = list(dict.fromkeys(names))
        followers = [self.subscriptions[name] for name in asked if name in self.subscriptions]
        return [self.get(name) for name in asked if name not in self.subscriptions], followers

    def ensure(self, projection: type[Projection], parts: int = 1) -> list[Checkpoint]:
        """The projection's rows, after making its first index if it has none.

        The first index is served at once, while it fills: there was nothing to be seen before it. Cut off anywhere, the
        next call goes on: rows come first, so that no index is without; the alias then says which index is served, and
        that it is built. Raises NeedsRebuild if readers see an index that this database knows nothing of,
        ProjectionStopped if the store does not accept what is declared of it.
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
            try:
                self.create_index(projection, first, loading=False)
            except StoreRefused as error:
                stopped = ProjectionStopped(
                    f"the index of {projection.name} cannot be made, look at its mappings and settings: {error}"
                )
                self.ledger.tell(first, "stopped", stopped.detail)
                raise stopped from error
            self.store.point_alias(projection.name, first)
            self.ledger.set_built(first)
            self.ledger.wake(projection.name)

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
        if why := self._why_a_copy(projection, served):
            return NotOurs(
                f"readers of {name} see what is not of this database: {why}: "
                f"`actionbus projections rebuild {name} --take-over`",
                {"rebuild": True},
            )
        return NotOurs(
            f"{seen}: it is of another journal, such as that of another application or environment. Give this one a "
            f"prefix (ACTIONBUS_ELASTICSEARCH_PREFIX) of its own, or take the name away from whoever reads it now: "
            f"`actionbus projections rebuild {name} --take-over`",
            {"rebuild": True},
        )

    def is_ours(self, projection: type[Projection], index: str) -> bool:
        """Whether an index is of our journal, this database and the projection; not if it is not there."""
        return self._is_of(projection.name, index)

    def _is_of(self, name: str, index: str) -> bool:
        try:
            info = self.store.info(index)
        except IndexMissing:
            return False
        if (info.projection, info.journal) != (name, self._bus.journal.identity()):
            return False
        return not_of_this_database(self.store, self.ledger, info) is None

    def _why_a_copy(self, projection: type[Projection], index: str) -> str | None:
        try:
            info = self.store.info(index)
        except IndexMissing:
            return None
        if (info.projection, info.journal) != (projection.name, self._bus.journal.identity()):
            return None
        return not_of_this_database(self.store, self.ledger, info)

    def remove(self, projection: type[Projection], index: str) -> bool:
        """Forget an index, and remove it from the store if it is ours; whether it was."""
        return self.remove_of(projection.name, index)

    def remove_of(self, name: str, index: str) -> bool:
        """The same of a projection that the application may no longer have."""
        ours = self._is_of(name, index)
        self.ledger.remove(index)
        self.verifications.forget(index)
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
        info = IndexInfo(
            index,
            projection.name,
            projection.version,
            self._bus.journal.identity(),
            incarnation=self.ledger.incarnation.have(),
        )
        self.store.create_index(info, projection.mappings, projection.settings, loading=loading)

    def not_fed(self, projection: type[Projection], part: int, parts: int) -> ProjectionStopped:
        """Why one who feeds a slice of so many does not feed a projection, although it has an index."""
        rows = self.ledger.checkpoints(projection.name)
        cut = {row.slices for row in rows if row.built and row.version == projection.version} - {parts}
        if cut:
            others = ", ".join(sorted(f"{row.slice}/{row.slices}" for row in rows if row.alive and row.slices in cut))
            count = max(cut)
            return ProjectionStopped(
                f"{projection.name} is fed in {count} {'slice' if count == 1 else 'slices'} ({others or 'just now'}), "
                f"and this process would feed slice {part} of {parts}: end those others, or start this one "
                f"with --slices N/{count}"
            )
        return self.outdated(projection)

    def outdated(self, projection: type[Projection]) -> NeedsRebuild:
        """Why a projection is not fed, although it has an index: that is of another version, or not whole."""
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
