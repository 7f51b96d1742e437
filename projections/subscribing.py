"""SubscriptionWork hands records to a subscription, in a thread of the projector."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from actionbus.projections.claim import Claim
from actionbus.projections.delivery import Delivery, DeliveryFailed
from actionbus.projections.errors import ProjectionStopped
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.operating import Pauses
from actionbus.projections.working import HEARTBEAT_S, Work, first_line

log = logging.getLogger("actionbus")


class SubscriptionWork(Work):
    """Hands over, sleeps, hands over."""

    def __init__(
        self,
        name: str,
        row: Checkpoint,
        ledger: Ledger,
        pauses: Pauses,
        claim: Callable[[Checkpoint], Claim],
        stop: threading.Event,
        delivery: Callable[[Claim], Delivery],
    ) -> None:
        super().__init__(name, row, ledger, pauses, claim, stop)
        self._delivery = delivery

    def once(self, claim: Claim) -> int:
        """Hand over all there is now; the position then. Raises ProjectionStopped."""
        delivery = self._delivery(claim)
        delivery.reload()
        while True:
            try:
                done = delivery.step()
            except DeliveryFailed as error:
                log.warning("%s is tried again: %s", self.name, first_line(error))
                self.back_off()
                continue
            self.recover()
            if not done.more:
                delivery.report("running")
                return done.position

    def feed(self, claim: Claim) -> None:
        """Hand over records of one subscription until stopped."""
        delivery = self._delivery(claim)
        is_current, last_sign = False, 0.0
        while not self.stop.is_set():
            try:
                if not is_current:
                    delivery.reload()
                    is_current = True
                if self.stands_still(delivery):
                    continue
                done = delivery.step()
                self.recover()
                if done.records or done.more:
                    last_sign = time.monotonic()
                elif time.monotonic() - last_sign > HEARTBEAT_S:
                    delivery.report("running")
                    last_sign = time.monotonic()
                if not done.more:
                    claim.sleep(self.stop)
            except ProjectionStopped as error:
                self.stay_stopped(delivery, error, lambda _waited: False)
                is_current = False
            except DeliveryFailed as error:
                log.warning("%s is tried again: %s", self.name, first_line(error))
                delivery.report("waiting", {"error": first_line(error), "position": error.records[0].position})
                self.back_off()
