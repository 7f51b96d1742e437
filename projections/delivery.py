"""Delivery hands records to whoever has a name in the journal. Used by the projector and by `journal stream`.

At least once, in the order of positions, and settled records alone: records are read beyond the position, handed over,
and only when the receiver has returned the position is moved, by whoever holds the row and where he left it. Killed
anywhere, the next holder begins at the position again. Nobody ever moves it back, but an operator by hand.

A position is a row of the ledger like a projection's, of an "index" that no store has: `subscription NAME`, which no
projection can be called. So what gives rows to one of many processes (`projections.claim`) holds for them as well.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from actionbus.core import ActionBusError, Bus, Record
from actionbus.projections.claim import Claim
from actionbus.projections.counters import DELIVERIES
from actionbus.projections.errors import IndexBusy, ProjectionStopped, shortened
from actionbus.projections.feeder import StepResult
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.shared_reading import SharedReading, WantedRecords

Handle = Callable[[Sequence[Record]], None]
ATTEMPTS: Final = 6
"""How often a record is handed over in one life of a process before that stops: with pauses of 0.25 to 8 s, 16 s."""
_LAST_LINES: Final = 8


def row_name(name: str) -> str:
    """What the row of a subscription is called in the ledger."""
    return f"subscription {name}"


def place_of(ledger: Ledger, name: str, start: int = 0) -> Checkpoint:
    """The row of a name; a new one begins beyond the position `start`."""
    index = row_name(name)
    if ledger.checkpoint(index, 1) is None and ledger.add(index, index, 1, 1, first=True):
        ledger.begin_at(index, start)
    found = ledger.checkpoint(index, 1)
    assert found is not None, "just added, and never removed but by hand"
    return found


class DeliveryFailed(ActionBusError):
    """A receiver raised; `records` are those that it was given."""

    def __init__(self, records: Sequence[Record], error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.records, self.error = records, error


class Delivery:
    """Hands over what comes beyond one row, under a claim."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        name: str,
        row: Checkpoint,
        claim: Claim,
        reading: SharedReading,
        wanted: WantedRecords,
        handle: Handle,
        batch: int,
    ) -> None:
        self.name, self.row = name, row
        self._bus, self._ledger, self._claim, self._handle, self._batch = bus, ledger, claim, handle, batch
        self._journal = reading.follower(wanted)
        self._size = batch
        self._failures = 0
        self._has_failed = False

    def reload(self) -> None:
        """Begin where the row is now, which somebody else may have moved. Raises ProjectionStopped."""
        found = self._ledger.checkpoint(self.row.index_name, self.row.slice)
        if found is None:
            raise IndexBusy(f"the position of {self.name} was removed")
        self.row = found
        self._journal.forget()
        last = self._bus.journal.last()
        if self.row.position > last:
            self._stop(
                f"{self.name} is at position {self.row.position}, but the journal ends at {last}: the database is an "
                f"older one; `actionbus subscriptions reset {self.name} --to POSITION` says where to go on"
            )
        self._bus.journal.look_again(self.row.position)

    def step(self) -> StepResult:
        """Hand over one batch.

        Raises DeliveryFailed, to be tried again after a pause; ProjectionStopped, which the status shows, once that has
        been done often; IndexBusy if the row is somebody else's by now.
        """
        row = self.row
        try:
            batch = self._journal.read(row.position, self._size)
        except ProjectionStopped as error:
            self._stop(f"{self.name}: {error}")
        if batch.end < row.position:
            self.reload()
        if batch.end <= row.position:
            return StepResult(0, row.position, more=False)
        if batch.records:
            self.sign_of_life()  # lest it is somebody else's already
            if self._has_failed:
                DELIVERIES.add(self.name, retries=1)
            try:
                self._handle(batch.records)
            except Exception as error:
                self._has_failed = True
                DELIVERIES.add(self.name, failures=1)
                self._failed(batch.records, error)
                raise DeliveryFailed(batch.records, error) from error
        if not self._ledger.advance(row, self._claim.holder, batch.end):
            raise self._lost()
        self.row = row._replace(position=batch.end)
        self._size, self._failures, self._has_failed = min(2 * self._size, self._batch), 0, False
        DELIVERIES.add(self.name, records=len(batch.records))
        return StepResult(len(batch.records), batch.end, batch.is_full)

    def _failed(self, records: Sequence[Record], error: Exception) -> None:
        """Go on with the first of the records alone, to find the one; stop when that has failed often."""
        self._failures = self._failures + 1 if self._size == 1 else 0
        self._size = 1
        first = records[0]
        if len(records) == 1 and self._failures >= ATTEMPTS:
            self._failures = 0
            told = shortened(f"{type(error).__name__}: {error}")
            self._stop(
                f"{self.name} stopped before record {first.position} ({first.action}): {told}",
                position=first.position,
                error=told,
                traceback=shortened("".join(traceback.format_exception(error, limit=-_LAST_LINES))),
            )

    def _stop(self, message: str, **detail: object) -> NoReturn:
        self.report("stopped", {"message": message, **detail})
        raise ProjectionStopped(message, detail)

    def report(self, state: str, detail: dict[str, object] | None = None) -> None:
        """Show a state. Raises IndexBusy if the row is not ours any more, or not where we left it."""
        if not self._ledger.report(self.row, self._claim.holder, state, detail):
            raise self._lost()

    def sign_of_life(self) -> None:
        """Only that, leaving the state alone. Raises IndexBusy."""
        if not self._ledger.sign_of_life(self.row, self._claim.holder):
            raise self._lost()

    def _lost(self) -> IndexBusy:
        return IndexBusy(f"another process hands over the records of {self.name}, or its position was moved")
