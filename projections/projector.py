"""Projector, what feeds records to an application's projections: one thread for each index, or slice of one.

with Bus(app, url) as bus:
    Projector(bus, store).run(stop)          # until the event is set
    Projector(bus, store).catch_up()         # until all is absorbed
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from actionbus.core import Bus, JournalUnavailable
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.claim import Claim
from actionbus.projections.errors import Held, NeedsRebuild, ProjectionError, Stopped, StoreError
from actionbus.projections.feeder import BATCH, Feeder
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.projection import Projection
from actionbus.projections.rebuild import Watch, nobody_watches
from actionbus.projections.store import Store

log = logging.getLogger("actionbus")

_LOOK_S = 1.0
_HEARTBEAT_S = 2.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.25, 10.0


class Projector:
    """Feeds the projections named (all of them by default). `part` of `parts` slices each of them by key."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        names: Iterable[str] | None = None,
        *,
        part: int = 1,
        parts: int = 1,
        batch: int = BATCH,
    ) -> None:
        if not 1 <= part <= parts:
            raise ValueError(f"slice {part}/{parts}: the first number goes from 1 to the second")
        self._bus, self._store, self._batch = bus, store, batch
        self._part, self._parts = part, parts
        self.catalogue = Catalogue(bus, store)
        self._projections = self.catalogue.chosen(names)

    def run(self, stop: threading.Event) -> None:
        """Feed until `stop` is set. Whatever fails is shown in the status and tried again; nothing is raised."""
        threads: dict[tuple[str, int], threading.Thread] = {}
        told: dict[str, str] = {}
        backoff = _FIRST_BACKOFF_S
        while not stop.is_set():
            try:
                for projection in self._projections:
                    for row in self._fed(projection, told):
                        place = (row.index_name, row.slice)
                        if place not in threads or not threads[place].is_alive():
                            threads[place] = self._start(projection, row, stop)
                backoff = _FIRST_BACKOFF_S
                stop.wait(_LOOK_S)
            except (StoreError, SQLAlchemyError, JournalUnavailable) as error:
                log.warning("projections wait: %s", _first_line(error))
                stop.wait(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF_S)
        for thread in threads.values():
            thread.join()

    def _fed(self, projection: type[Projection], told: dict[str, str]) -> Sequence[Checkpoint]:
        """The rows to feed; why there are none is logged once."""
        try:
            rows = self._rows(projection)
            problem = "" if rows else str(self.catalogue.outdated(projection))
        except NeedsRebuild as error:
            rows, problem = [], str(error)
        if problem and told.get(projection.name) != problem:
            log.error("%s", problem)
        told[projection.name] = problem
        return rows

    def _rows(self, projection: type[Projection]) -> Sequence[Checkpoint]:
        """The slices that this projector may feed: of indices that are built, by reducers of their own version."""
        rows = self.catalogue.ensure(projection, self._parts)
        fitting = [row for row in rows if row.built and row.version == projection.version]
        return [row for row in fitting if row.slice == self._part and row.slices == self._parts]

    def _start(self, projection: type[Projection], row: Checkpoint, stop: threading.Event) -> threading.Thread:
        work = _Work(self, projection, row, stop)
        thread = threading.Thread(target=work.run, name=f"{row.index_name} {row.slice}", daemon=True)
        thread.start()
        return thread

    def feeder(self, projection: type[Projection], row: Checkpoint, claim: Claim) -> Feeder:
        """A feeder under a claim."""
        return Feeder(self._bus, self._store, self.catalogue.ledger, projection, row, claim, self._batch)

    def claim(self, row: Checkpoint) -> Claim:
        """A claim, not yet acquired."""
        return Claim(self._bus.engine, self.catalogue.ledger, row, self._bus.backend.schema)

    def catch_up(self, watch: Watch = nobody_watches) -> dict[str, int]:
        """Absorb all there is now, for searches to see; the position each projection has reached.

        Raises Stopped (or NeedsRebuild) at a record that cannot be absorbed, or Held if another projector works, after
        feeding the other projections. One that was killed is waited for until its lease runs out.
        """
        reached: dict[str, int] = {}
        failed: list[ProjectionError] = []
        for projection in self._projections:
            try:
                reached[projection.name] = self._caught_up(projection, watch)
            except (Stopped, Held) as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return reached

    def _caught_up(self, projection: type[Projection], watch: Watch) -> int:
        """Feed every index, whatever becomes of another; where that one is which readers see."""
        rows = self._rows(projection)
        if not rows:
            raise self.catalogue.outdated(projection)
        reached: dict[str, int] = {}
        failed: dict[str, ProjectionError] = {}
        for row in rows:
            try:
                reached[row.index_name] = self._catch_up_one(projection, row, watch)
            except (Stopped, Held) as error:
                failed[row.index_name] = error
        served = self._store.aliased(projection.name)
        chief = served if served in {*reached, *failed} else rows[-1].index_name
        if chief in failed:
            raise failed[chief]
        for index, reason in failed.items():
            log.warning("%s, which is kept for a rollback, is not fed: %s", index, reason)
        return reached[chief]

    def _catch_up_one(self, projection: type[Projection], row: Checkpoint, watch: Watch) -> int:
        claim = self.claim(row)
        if not claim.acquire_from_the_dead():
            raise Held(f"another projector feeds {row.index_name}")
        try:
            feeder = self.feeder(projection, row, claim)
            feeder.check()
            total = self._bus.journal.last()
            while (done := feeder.step()).more:
                watch(projection.name, done.position, max(total, done.position))
            feeder.report("running")
            self._store.refresh(row.index_name)
            watch(projection.name, done.position, done.position)
        finally:
            claim.release()
        return done.position


class _Work:
    """What one thread does: stand by until the claim is had, then absorb, sleep, absorb."""

    def __init__(
        self, projector: Projector, projection: type[Projection], row: Checkpoint, stop: threading.Event
    ) -> None:
        self._projector, self._projection, self._row, self._stop = projector, projection, row, stop
        self._backoff = _FIRST_BACKOFF_S

    def run(self) -> None:
        """Until stopped, or until the index is forgotten."""
        while not self._stop.is_set() and self._is_there():
            claim = self._projector.claim(self._row)
            try:
                if claim.acquire():
                    self._feed(claim)
                else:
                    self._stop.wait(_LOOK_S)
            except Held:
                self._stop.wait(_FIRST_BACKOFF_S)
            except Exception as error:
                log.warning("%s waits: %s", self._row.index_name, _first_line(error))
                self._pause()
            finally:
                claim.release()

    def _is_there(self) -> bool:
        try:
            found = self._projector.catalogue.ledger.checkpoint(self._row.index_name, self._row.slice)
        except Exception:
            return True
        return found is not None and found.slices == self._row.slices

    def _feed(self, claim: Claim) -> None:
        feeder = self._projector.feeder(self._projection, self._row, claim)
        checked, last_sign = False, 0.0
        while not self._stop.is_set():
            try:
                if not checked:
                    feeder.check()
                    checked = True
                done = feeder.step()
                self._backoff = _FIRST_BACKOFF_S
                if done.records or done.more:
                    last_sign = time.monotonic()
                elif time.monotonic() - last_sign > _HEARTBEAT_S:
                    feeder.report("running", self._held_at_hole(done.position))
                    last_sign = time.monotonic()
                if not done.more:
                    claim.sleep(self._stop)
            except Stopped as error:
                log.error("%s", error)
                self._stay_stopped(feeder, error)
                checked = False
            except StoreError as error:
                feeder.report("waiting", {"error": _first_line(error)})
                log.warning("%s waits for the store: %s", self._row.index_name, _first_line(error))
                self._pause()

    def _held_at_hole(self, position: int) -> Mapping[str, object] | None:
        who = self._projector.catalogue.waiting_for()
        return {"held_at": position + 1, "waiting_for": who} if who else None

    def _stay_stopped(self, feeder: Feeder, error: Stopped) -> None:
        """Until somebody says `retry` or `skip`; by ourselves only where the store may have changed its mind."""
        waited, position = 0.0, error.detail.get("position")
        while not self._stop.wait(_LOOK_S):
            waited += _LOOK_S
            row = self._projector.catalogue.ledger.checkpoint(self._row.index_name, self._row.slice)
            if row is None or row.state != "stopped":
                return
            if isinstance(position, int) and waited >= self._backoff:
                self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF_S)
                waited = 0.0
                if error.detail.get("refused") or feeder.is_to_be_left_out(position):
                    return
            if isinstance(error, NeedsRebuild) and waited >= _LONGEST_BACKOFF_S:
                return
            feeder.sign_of_life()

    def _pause(self) -> None:
        self._stop.wait(self._backoff)
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF_S)


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).strip().splitlines()[0]
    return type(error).__name__
