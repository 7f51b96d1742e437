"""Work, what one thread of a projector does: stand by until a claim is had, then feed, sleep, feed.

What it feeds, an index of a projection or a subscription, its two kinds say: `projecting` and `subscribing`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from actionbus.projections.claim import Claim
from actionbus.projections.errors import IndexBusy, ProjectionStopped
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.operating import Pauses

log = logging.getLogger("actionbus")

LOOK_S: Final = 1.0
"""Seconds after which one who has nothing to do looks again whether that is so."""
HEARTBEAT_S: Final = 2.0
"""Seconds between signs of life while there is nothing to feed: a lease (`LEASE_S`) holds for five of them."""
FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 10.0
"""Seconds between attempts while the store is away, doubled from one to the next."""


class Feeds(Protocol):
    """What a thread needs of what feeds, to show what it does."""

    def report(self, state: str, detail: dict[str, object] | None = None) -> None:
        """Show a state. Raises IndexBusy."""

    def sign_of_life(self) -> None:
        """Say that the holder still lives, and no more. Raises IndexBusy if another has taken over."""


class Work(ABC):
    """Of one row of the ledger; `name` is that of the projection or subscription."""

    def __init__(
        self,
        name: str,
        row: Checkpoint,
        ledger: Ledger,
        pauses: Pauses,
        claim: Callable[[Checkpoint], Claim],
        stop: threading.Event,
    ) -> None:
        self.name, self.row, self.ledger, self.stop = name, row, ledger, stop
        self._pauses, self._claim = pauses, claim
        self.backoff = FIRST_BACKOFF_S

    def run(self) -> None:
        """Until stopped, or until the row is forgotten."""
        while not self.stop.is_set() and self._is_there():
            claim = self._claim(self.row)
            try:
                if claim.acquire():
                    self.feed(claim)
                else:
                    self.stop.wait(LOOK_S)
            except IndexBusy:
                self.stop.wait(FIRST_BACKOFF_S)
            except Exception as error:
                log.warning("%s waits: %s: %s", self.row.index_name, type(error).__name__, first_line(error))
                self.back_off()
            finally:
                claim.release()

    @abstractmethod
    def feed(self, claim: Claim) -> None:
        """Until stopped. May raise whatever is to be tried again with a new claim."""

    def _is_there(self) -> bool:
        try:
            found = self.ledger.checkpoint(self.row.index_name, self.row.slice)
        except Exception:
            return True
        return found is not None and found.slices == self.row.slices

    def stands_still(self, feeder: Feeds) -> bool:
        """Wait while an operator has it paused; whether he had. Others stand by meanwhile, as ever."""
        pause = self._pauses.lately(self.name)
        if pause is None:
            return False
        log.warning("%s is %s", self.name, pause.told)
        shown = 0.0
        while pause is not None and not self.stop.is_set():
            if time.monotonic() - shown > HEARTBEAT_S:
                feeder.report("paused", {"message": pause.told})
                shown = time.monotonic()
            self.stop.wait(LOOK_S / 4)
            pause = self._pauses.lately(self.name)
        if not self.stop.is_set():
            log.warning("%s goes on", self.name)
            feeder.report("running")
        return True

    def stay_stopped(self, feeder: Feeds, error: ProjectionStopped, may_go_on: Callable[[float], bool]) -> None:
        """Until an operator changes the row, or `may_go_on`, given the seconds waited, says so."""
        log.error("%s", error)
        waited = 0.0
        while not self.stop.wait(LOOK_S):
            waited += LOOK_S
            row = self.ledger.checkpoint(self.row.index_name, self.row.slice)
            if row is None or row.state != "stopped" or may_go_on(waited):
                return
            feeder.sign_of_life()

    def back_off(self) -> None:
        """Wait, longer each time."""
        self.stop.wait(self.backoff)
        self.grow()

    def grow(self) -> None:
        """Wait longer the next time."""
        self.backoff = min(self.backoff * 2, LONGEST_BACKOFF_S)

    def recover(self) -> None:
        """It went well: wait shortly again the next time."""
        self.backoff = FIRST_BACKOFF_S


def first_line(error: BaseException) -> str:
    """What an error says, shortly."""
    with suppress(IndexError):
        return str(error).strip().splitlines()[0]
    return type(error).__name__
