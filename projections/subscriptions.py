"""Subscriptions, what operators ask of those who follow the journal under a name: status, retry, skip, reset, pause.

subscriptions = Subscriptions(bus)
subscriptions.status()
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actionbus.core import Bus, Outcome
from actionbus.projections.delivery import place_of, row_name
from actionbus.projections.errors import UnknownProjection
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.operating import Pause, Pauses, pause, resume


@dataclass(frozen=True)
class SubscriptionStatus:
    """Where a subscription is. `lag_seconds` is the age of the oldest record beyond its position."""

    name: str
    is_declared: bool
    """Whether the application declares it; else it is a name of `journal stream`."""
    state: str
    """running, idle (nobody follows), waiting (to try again), stopped, paused, or new."""
    alive: bool
    position: int
    lag_positions: int
    lag_seconds: float
    detail: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why, in one word, as for a label: record, journal (an older one), receiver, unfed or none."""
        if self.state == "stopped":
            return "record" if self.detail.get("position") else "journal"
        return {"waiting": "receiver", "idle": "unfed"}.get(self.state, "")

    @property
    def healthy(self) -> bool:
        """Whether no operator need look at it. Nobody need follow a stream."""
        return self.state in ("running", "new") or (self.state == "idle" and not self.is_declared)


class Subscriptions:
    """Bound to a bus; thread-safe."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ledger, self._pauses = Ledger(bus.backend), Pauses(bus.backend)
        self._declared = [each.name for each in bus.application.subscriptions]

    def names(self) -> list[str]:
        """Those that the application declares, and those that `journal stream` was ever given."""
        known = {row.index_name for row in self._ledger.checkpoints()}
        prefix = row_name("")
        others = {each.removeprefix(prefix) for each in known if each.startswith(prefix)}
        return [*self._declared, *sorted(others - {*self._declared})]

    def status(self) -> list[SubscriptionStatus]:
        """Where each of them is."""
        pauses, last = self._pauses.all(), self._bus.journal.last()
        return [self._status(name, pauses.get(name), last) for name in self.names()]

    def _status(self, name: str, paused: Pause | None, last: int) -> SubscriptionStatus:
        row = self._ledger.checkpoint(row_name(name), 1)
        position, alive = (row.position, row.alive) if row else (0, False)
        begins = self._bus.journal.begins.position()
        first = next(self._bus.journal.read(max(position, begins), 1, wait=False), None)
        age = (datetime.now(UTC) - first.recorded_at).total_seconds() if first else 0.0
        state, detail = _state(row)
        if paused and state != "stopped":
            state, detail = "paused", {"message": paused.told}
        is_declared = name in self._declared
        lag = max(0, last - position)
        return SubscriptionStatus(name, is_declared, state, alive, position, lag, max(0.0, age), detail)

    def retry(self, name: str) -> bool:
        """Try a stopped one again, after its cause was mended; whether it was stopped."""
        return self._ledger.wake(self._row(name).projection) > 0

    def skip(self, name: str, position: int | None = None, *, actor: str | None = None) -> Outcome:
        """Leave out the record that stopped it, by the action `move_subscription`. Raises ValueError if none did."""
        row = self._row(name)
        at = row.told.get("position") if row.state == "stopped" else None
        if at is None or position not in (None, at):
            where = f"by record {position}" if position is not None else "by a record"
            raise ValueError(f"{name} is not stopped {where}; see `actionbus subscriptions status`")
        return self._move(name, at, actor, f"left out: {row.told.get('error', '')}"[:500])

    def reset(self, name: str, to: int, *, actor: str | None = None, reason: str = "") -> Outcome:
        """Let it go on beyond another position, by the same action; whoever hands over finds out at once.

        One that was never followed begins there, and not at the journal's start.
        """
        if self._known(name) in self._declared:
            place_of(self._ledger, name)
        return self._move(name, to, actor, reason)

    def _move(self, name: str, to: int, actor: str | None, reason: str) -> Outcome:
        runner = self._bus.runner(actor, operator=True)
        return runner.execute("move_subscription", {"name": name, "to": to, "reason": reason})

    def pause(self, name: str, *, actor: str | None = None, reason: str = "") -> Outcome:
        """Let it stand still until it is resumed, by the action `pause_feeding`."""
        return pause(self._bus, self._known(name), actor, reason)

    def resume(self, name: str, *, actor: str | None = None) -> Outcome:
        """Let it go on, by the action `resume_feeding`. Raises InvalidArguments if it is not paused."""
        return resume(self._bus, self._known(name), actor)

    def _known(self, name: str) -> str:
        names = self.names()
        if name not in names:
            raise UnknownProjection(f"there is no subscription {name!r}; there are: {', '.join(names) or 'none'}")
        return name

    def _row(self, name: str) -> Checkpoint:
        row = self._ledger.checkpoint(row_name(self._known(name)), 1)
        if row is None:
            raise UnknownProjection(f"{name} was never followed; `actionbus projections run` begins")
        return row


def _state(row: Checkpoint | None) -> tuple[str, dict[str, Any]]:
    if row is None:
        return "new", {}
    if row.state == "stopped" or row.alive:
        return row.state, row.told
    return ("new" if row.state == "new" and not row.position else "idle"), row.told
