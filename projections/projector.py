"""Projector, what feeds records to an application's projections: one thread for each index, or slice of one.

with Bus(app, url) as bus:
    Projector(bus, store).run(stop)          # until the event is set
    Projector(bus, store).catch_up()         # until all is absorbed
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from actionbus.core import Bus, JournalUnavailable
from actionbus.core.queueing.dispatcher import Recovery
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.claim import Claim
from actionbus.projections.delivery import Delivery, place_of, row_name
from actionbus.projections.errors import IndexBusy, ProjectionError, ProjectionStopped, StoreError
from actionbus.projections.feeder import BATCH, Feeder
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.operating import Pauses
from actionbus.projections.projecting import ProjectionWork
from actionbus.projections.projection import Projection
from actionbus.projections.rebuild import Watch, nobody_watches
from actionbus.projections.shared_reading import SharedReading
from actionbus.projections.store import Store
from actionbus.projections.subscribing import SubscriptionWork
from actionbus.projections.subscription import Subscription
from actionbus.projections.working import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, LOOK_S, Work, first_line

log = logging.getLogger("actionbus")


class Projector:
    """Feeds the projections and subscriptions named, or all. `part` of `parts` slices each projection by key.

    Raises UnknownProjection for a name, and ValueError for a part that is not between 1 and `parts`.
    """

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
            raise ValueError(f"there is no slice {part} of {parts}: `part` must be from 1 to `parts`")
        self._bus, self._store, self._batch = bus, store, batch
        self._part, self._parts = part, parts
        self.catalogue = Catalogue(bus, store)
        self._projections, subscriptions = self.catalogue.chosen(names)
        # Slices are by the keys of documents: a subscription, which has none, is fed with the first of them.
        self._subscriptions = subscriptions if part == 1 else []
        self._pauses = Pauses(bus.backend)
        self._reading = SharedReading(bus.journal)

    def run(self, stop: threading.Event) -> None:
        """Feed until `stop` is set, and recover what died. What fails is shown and tried again; nothing is raised."""
        threads: dict[tuple[str, int], threading.Thread] = {}

        def start(place: tuple[str, int], work: Callable[[], Work]) -> None:
            if place not in threads or not threads[place].is_alive():
                threads[place] = threading.Thread(target=work().run, name=f"{place[0]} {place[1]}", daemon=True)
                threads[place].start()

        told: dict[str, str] = {}
        backoff = FIRST_BACKOFF_S
        recovery = threading.Thread(target=Recovery(self._bus).run, args=[stop], name="actionbus recovery", daemon=True)
        recovery.start()
        while not stop.is_set():
            try:
                for subscription in self._subscriptions:
                    start((row_name(subscription.name), 1), partial(self._hand_over, subscription, stop))
                for projection in self._projections:
                    for row in self._fed(projection, told):
                        start((row.index_name, row.slice), partial(self._work_on, projection, row, stop))
                backoff = FIRST_BACKOFF_S
                stop.wait(LOOK_S)
            except (StoreError, SQLAlchemyError, JournalUnavailable) as error:
                log.warning("projections wait: %s", first_line(error))
                stop.wait(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF_S)
        for thread in (*threads.values(), recovery):
            thread.join()

    def _fed(self, projection: type[Projection], told: dict[str, str]) -> Sequence[Checkpoint]:
        """The rows to feed; why there are none is logged once."""
        try:
            rows = self._rows(projection)
            problem = "" if rows else str(self.catalogue.not_fed(projection, self._part, self._parts))
        except ProjectionStopped as error:
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

    def _work_on(self, projection: type[Projection], row: Checkpoint, stop: threading.Event) -> ProjectionWork:
        return ProjectionWork(
            projection.name,
            row,
            self.catalogue,
            self._pauses,
            self.claim,
            stop,
            lambda claim: self.feeder(projection, row, claim),
        )

    def _hand_over(self, subscription: type[Subscription], stop: threading.Event) -> SubscriptionWork:
        ledger = self.catalogue.ledger
        row = place_of(ledger, subscription.name)

        def delivery(claim: Claim) -> Delivery:
            return Delivery(
                self._bus,
                ledger,
                subscription.name,
                row,
                claim,
                self._reading,
                subscription.wanted(),
                subscription().handle,
                subscription.batch,
            )

        return SubscriptionWork(subscription.name, row, ledger, self._pauses, self.claim, stop, delivery)

    def feeder(self, projection: type[Projection], row: Checkpoint, claim: Claim) -> Feeder:
        """A feeder under a claim."""
        return Feeder(self._bus, self._store, self.catalogue.ledger, projection, row, claim, self._batch, self._reading)

    def claim(self, row: Checkpoint) -> Claim:
        """A claim, not yet acquired."""
        return Claim(self._bus.engine, self.catalogue.ledger, row, self._bus.backend.schema)

    def catch_up(self, watch: Watch = nobody_watches) -> dict[str, int]:
        """Absorb all there is now, for searches to see; the position each projection has reached.

        Raises ProjectionStopped (or NeedsRebuild) at a record that cannot be absorbed, or IndexBusy if another
        projector works, after feeding the other projections. One that was killed is waited for until its lease ends.
        """
        reached: dict[str, int] = {}
        failed: list[ProjectionError] = []
        for projection in self._projections:
            try:
                reached[projection.name] = self._caught_up(projection, watch)
            except (ProjectionStopped, IndexBusy) as error:
                failed.append(error)
        for subscription in self._subscriptions:
            try:
                reached[subscription.name] = self._handed_over(subscription)
            except (ProjectionStopped, IndexBusy) as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return reached

    def _caught_up(self, projection: type[Projection], watch: Watch) -> int:
        """Feed every index, whatever becomes of another; where that one is which readers see."""
        self._refuse_paused(projection.name)
        rows = self._rows(projection)
        if not rows:
            raise self.catalogue.not_fed(projection, self._part, self._parts)
        reached: dict[str, int] = {}
        failed: dict[str, ProjectionError] = {}
        for row in rows:
            try:
                reached[row.index_name] = self._catch_up_one(projection, row, watch)
            except (ProjectionStopped, IndexBusy) as error:
                failed[row.index_name] = error
        served = self._store.aliased(projection.name)
        chief = served if served in {*reached, *failed} else rows[-1].index_name
        if chief in failed:
            raise failed[chief]
        for index, reason in failed.items():
            log.warning("%s, which is kept for a rollback, is not fed: %s", index, reason)
        return reached[chief]

    def _refuse_paused(self, name: str) -> None:
        if pause := self._pauses.all().get(name):
            kind = (
                "subscriptions"
                if name in {each.name for each in self._bus.application.subscriptions}
                else "projections"
            )
            raise ProjectionStopped(f"{name} is {pause.told}; `actionbus {kind} resume {name}` lets it go on")

    def _handed_over(self, subscription: type[Subscription]) -> int:
        """Hand over all there is now; where it is then. Raises ProjectionStopped at a record that goes on failing."""
        self._refuse_paused(subscription.name)
        work = self._hand_over(subscription, threading.Event())
        claim = self.claim(work.row)
        if not claim.acquire_from_the_dead():
            raise IndexBusy(f"another process hands over the records of {subscription.name}")
        try:
            return work.once(claim)
        finally:
            claim.release()

    def _catch_up_one(self, projection: type[Projection], row: Checkpoint, watch: Watch) -> int:
        claim = self.claim(row)
        if not claim.acquire_from_the_dead():
            raise IndexBusy(f"another projector feeds {row.index_name}")
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
