"""ProjectionWork feeds one slice of one index of a projection, in a thread of the projector."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from actionbus.projections.catalogue import Catalogue
from actionbus.projections.claim import Claim
from actionbus.projections.errors import IndexBusy, NeedsRebuild, ProjectionStopped, StoreError
from actionbus.projections.feeder import Feeder
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.operating import Pauses
from actionbus.projections.working import HEARTBEAT_S, LONGEST_BACKOFF_S, Work, first_line

log = logging.getLogger("actionbus")


class ProjectionWork(Work):
    """Absorbs, sleeps, absorbs."""

    def __init__(
        self,
        name: str,
        row: Checkpoint,
        catalogue: Catalogue,
        pauses: Pauses,
        claim: Callable[[Checkpoint], Claim],
        stop: threading.Event,
        feeder: Callable[[Claim], Feeder],
    ) -> None:
        super().__init__(name, row, catalogue.ledger, pauses, claim, stop)
        self._catalogue, self._feeder = catalogue, feeder

    def feed(self, claim: Claim) -> None:
        """Feed one slice of an index until stopped."""
        feeder = self._feeder(claim)
        checked, last_sign = False, 0.0
        while not self.stop.is_set():
            try:
                if not checked:
                    feeder.check()
                    checked = True
                if self.stands_still(feeder):
                    checked = False
                    continue
                done = feeder.step()
                self.recover()
                if done.records or done.more:
                    last_sign = time.monotonic()
                elif time.monotonic() - last_sign > HEARTBEAT_S:
                    feeder.report("running", self._held_at_hole(done.position))
                    last_sign = time.monotonic()
                if not done.more:
                    claim.sleep(self.stop)
            except ProjectionStopped as error:
                self._stay_stopped(feeder, error)
                checked = False
            except StoreError as error:
                feeder.report("waiting", {"error": first_line(error)})
                log.warning("%s waits for the store: %s", self.row.index_name, first_line(error))
                self.back_off()
            except IndexBusy:
                raise
            except Exception as error:
                # Such as a database that is away, which cannot be told there; or an error of ours, which can.
                told = f"tried again by itself, after what nobody expected: {type(error).__name__}: {first_line(error)}"
                with suppress(Exception):
                    feeder.report("waiting", {"message": told, "error": first_line(error)})
                raise

    def _held_at_hole(self, position: int) -> dict[str, object] | None:
        who = self._catalogue.waiting_for()
        return {"held_at": position + 1, "waiting_for": who} if who else None

    def _stay_stopped(self, feeder: Feeder, error: ProjectionStopped) -> None:
        """Until somebody says `retry` or `skip`; by ourselves only where the store may have changed its mind."""
        position, looked = error.detail.get("position"), 0.0

        def may_go_on(waited: float) -> bool:
            nonlocal looked
            if isinstance(position, int) and waited - looked >= self.backoff:
                self.grow()
                looked = waited
                if error.detail.get("refused") or feeder.is_to_be_left_out(position):
                    return True
            return isinstance(error, NeedsRebuild) and waited >= LONGEST_BACKOFF_S

        self.stay_stopped(feeder, error, may_go_on)
