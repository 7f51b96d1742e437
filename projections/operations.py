"""Projections, what operators and applications ask of read models: status, waiting, retry, skip, rebuild, verify,
prune.

projections = Projections(bus, store)
projections.wait_for("assets", runner.execute("add_asset", {...}), timeout=5)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from actionbus.core import Bus, Outcome
from actionbus.core.values.backoff import growing
from actionbus.projections.belonging import why_not
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.errors import IndexBusy, Lagging, ProjectionError, ProjectionStopped, UnknownProjection
from actionbus.projections.fed import is_name
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.operating import Pauses, pause, resume
from actionbus.projections.pacing import Pace
from actionbus.projections.projection import Projection
from actionbus.projections.rebuild import DocumentDifference, Rebuild, Watch, nobody_watches
from actionbus.projections.status import Status, statuses_left, statuses_of
from actionbus.projections.store import Store
from actionbus.projections.verification import Verification

log = logging.getLogger("actionbus")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.2


class Projections:
    """Bound to a bus and a store; thread-safe."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus, self.store = bus, store
        self._catalogue = Catalogue(bus, store)
        self._pauses = Pauses(bus.backend)

    def names(self) -> list[str]:
        """The names of the application's projections."""
        return list(self._catalogue.projections)

    def status(self) -> list[Status]:
        """Where every projection is, one Status for each slice of each index."""
        return list(self._statuses())

    def _statuses(self) -> Iterator[Status]:
        pauses = self._pauses.all()
        for projection in self._catalogue.projections.values():
            pause = pauses.get(projection.name)
            for status in statuses_of(self._bus, self._catalogue, projection):
                if pause is None or status.state in ("stopped", "outdated"):
                    yield status
                else:
                    yield replace(status, state="paused", detail={"message": pause.told})
        yield from statuses_left(self._bus, self._catalogue)

    def pause(self, name: str, *, actor: str | None = None, reason: str = "") -> Outcome:
        """Let a projection stand still, wherever it is fed, until it is resumed; by the action `pause_feeding`.

        Whoever calls this operates the service: no checkpoint is asked. It survives restarts and rebuilds.
        """
        return pause(self._bus, self._catalogue.get(name).name, actor, reason)

    def resume(self, name: str, *, actor: str | None = None) -> Outcome:
        """Let it go on, by the action `resume_feeding`. Raises InvalidArguments if it is not paused."""
        return resume(self._bus, self._catalogue.get(name).name, actor)

    def wait_for(self, name: str, position: int | Outcome, timeout: float = 10.0, *, refresh: bool = False) -> int:
        """Wait until a projection has absorbed a position, or the outcome of an action; the position it is at.

        `timeout` is in seconds. With `refresh`, searches see it too. Raises Lagging when the time is over,
        ProjectionStopped at once if the projection cannot get there without an operator.
        """
        wanted = position.position if isinstance(position, Outcome) else position
        projection = self._catalogue.get(name)
        deadline, pauses = time.monotonic() + timeout, growing(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, 1.5)
        while True:
            rows = [row for row in self._catalogue.ledger.checkpoints(name) if row.version == projection.version]
            served = self._served(name, rows)
            if served and all(row.position >= wanted for row in served):
                if refresh:
                    self.store.refresh(served[0].index_name)
                return min(row.position for row in served)
            for row in served:
                if row.state == "stopped":
                    raise ProjectionStopped(row.told.get("message", f"{name} is stopped"), row.told)
            if time.monotonic() > deadline:
                at = min((row.position for row in served), default=0)
                alive = all(row.alive for row in served) and bool(served)
                hint = "" if alive else "; nobody feeds it: is `actionbus projections run` running?"
                if stands := self._pauses.all().get(name):
                    hint = f"; it is {stands.told}"
                raise Lagging(f"{name} is at position {at}, not at {wanted}, after {timeout:g} s{hint}")
            time.sleep(next(pauses))

    def _served(self, name: str, rows: list[Checkpoint]) -> list[Checkpoint]:
        names = {row.index_name for row in rows if row.built}
        if len(names) < 2:
            return [row for row in rows if row.built]
        served = self.store.aliased(name)
        return [row for row in rows if row.index_name == served]

    def retry(self, name: str) -> int:
        """Try a stopped projection again, after its cause was mended; how many slices were stopped."""
        return self._catalogue.ledger.wake(self._catalogue.get(name).name)

    def skip(self, name: str, position: int | None = None, *, actor: str | None = None) -> Outcome:
        """Leave out the record that stopped a projection, by the action `skip_record`, which tells who did.

        Whoever calls this operates the service: no checkpoint is asked. Raises ValueError if the projection is not
        stopped by that record.
        """
        projection = self._catalogue.get(name)
        rows = self._catalogue.ledger.checkpoints(name)
        stopped = [row.told for row in rows if row.state == "stopped" and row.version == projection.version]
        at = {told["position"]: told for told in stopped if told.get("position")}
        if not at or (position is not None and position not in at):
            where = f"by record {position}" if position is not None else "by a record"
            raise ValueError(f"{name} is not stopped {where}; see `actionbus projections status`")
        chosen = min(at) if position is None else position
        reason = str(at[chosen].get("error", ""))[:500]
        outcome = self._bus.runner(actor, operator=True).execute(
            "skip_record",
            {"projection": name, "of_version": projection.version, "position": chosen, "reason": reason},
        )
        self.retry(name)
        return outcome

    def rebuild(
        self, name: str, *, take_over: bool = False, rate: float | None = None, watch: Watch = nobody_watches
    ) -> str:
        """Build a new index beside the old and swap them; the new index's name. Resumes what was cut off.

        `rate` is the most records per second that are read for it, until it is swapped in; it must be above what is
        written meanwhile, or the rebuild never ends. Projections that are fed keep their own pace.

        Raises NotOurs if readers of that name see what is not this projection of this journal, unless with `take_over`:
        then they see the new index from now on, and what they saw before is left alone.
        """
        pace = Pace(rate)
        return Rebuild(self._bus, self._catalogue, self._catalogue.get(name), watch, pace).run(take_over=take_over)

    def differences(self, name: str, *, watch: Watch = nobody_watches) -> Iterator[DocumentDifference]:
        """What a rebuild would change, document by document; changes nothing itself."""
        return Rebuild(self._bus, self._catalogue, self._catalogue.get(name), watch).differences()

    def verification(self, name: str, *, sample: int | None = None, watch: Watch = nobody_watches) -> Verification:
        """What of the index that readers see is not as the journal has it: iterate over it, then see its `outcome`.

        All documents are compared, or with `sample` about so many. Right while others feed it; changes nothing. Raises
        NeedsRebuild if readers see no index that this code feeds, ProjectionStopped at a record that the present
        reducers cannot absorb.
        """
        return Verification(self._bus, self._catalogue, self._catalogue.get(name), watch, sample)

    def rollback(self, name: str) -> str:
        """Let readers see the index before the last rebuild again; its name."""
        return Rebuild(self._bus, self._catalogue, self._catalogue.get(name), nobody_watches).rollback()

    def prune(self, tombstones_older_than: timedelta = timedelta(days=1)) -> dict[str, int]:
        """Remove indices that nobody reads, unfinished ones nobody builds, and old tombstones; what was removed.

        Only what the store says is of this journal and projection. While readers see no index of ours that this code
        can feed, all are kept: one of them may be what a rollback needs.
        """
        removed = {"indices": 0, "tombstones": 0}
        for projection in self._catalogue.projections.values():
            rows = self._catalogue.ledger.checkpoints(projection.name)
            served = self.store.aliased(projection.name)
            kept = [row for row in rows if row.index_name == served]
            if served is None or not kept:
                continue
            if why := self._why_kept(projection, kept[0]):
                log.warning("%s: nothing is removed, since what readers see is not in order: %s", projection.name, why)
                continue
            known = {row.index_name for row in rows}
            busy = {row.index_name for row in rows if not row.built and row.alive}
            for index in sorted({*known, *self.store.indices(projection.name)} - {served} - busy):
                removed["indices"] += self._catalogue.remove(projection, index)
            removed["tombstones"] += self._clear(served, kept, tombstones_older_than)
        return removed

    def forget(self, name: str) -> int:
        """Remove all indices and checkpoints of a projection that the application has no more; how many indices.

        Only those of this journal and database. Raises ProjectionError if the application has it, UnknownProjection if
        nothing is known of it, IndexBusy while somebody feeds it, as an application that has it does.
        """
        if name in self._catalogue.projections:
            raise ProjectionError(f"the application has the projection {name}: take it out of that first")
        rows = self._catalogue.left().get(name, [])
        found = {row.index_name for row in rows} | set(self.store.indices(name) if is_name(name) else ())
        if not found:
            raise UnknownProjection(f"nothing is known of a projection {name!r}, which the application has not")
        if any(row.alive for row in rows):
            raise IndexBusy(f"somebody feeds {name}: another application has it, or an older release of this one")
        return sum(self._catalogue.remove_of(name, index) for index in sorted(found))

    def _why_kept(self, projection: type[Projection], served: Checkpoint) -> str | None:
        """Why the index that readers see is not yet the only one to keep."""
        if served.version != projection.version:
            return str(self._catalogue.outdated(projection))
        if not self._catalogue.is_ours(projection, served.index_name):
            return str(self._catalogue.stranger(projection, served.index_name))
        return why_not(self._bus, self.store, self._catalogue.ledger, served)

    def _clear(self, index: str, rows: list[Checkpoint], older_than: timedelta) -> int:
        below = min(row.position for row in rows)
        before = (datetime.now(UTC) - older_than).isoformat()
        info = self.store.info(index)
        # Remembered before anything is removed, so that a restored journal which still needs them is found out.
        if greatest := self.store.greatest_tombstone(index, below, before):
            self.store.set_pruned_to(index, max(info.pruned_to, greatest))
        return self.store.clear_tombstones(index, below, before)
