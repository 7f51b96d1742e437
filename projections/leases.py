"""What holds for a while by the database's clock, as leases and freezes do; over by itself. The ledger uses it.

That clock may be set back, as when a machine's time is put right or a virtual machine is resumed. What holds for
seconds and seems to hold for an hour was promised by the clock of then, and is over: it would keep others out as long
as the clock was wrong. Who lives renews his lease within seconds, and finds out if it was taken from him meanwhile.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Double, literal_column, or_

from actionbus.core.storage.shared import shared

LEASE_S: Final = 10.0
"""Seconds that a sign of life holds. On SQLite another projector takes over after them."""
FREEZE_S: Final = 30.0
"""Seconds that an index which readers see takes no writes while it is swapped for another."""


def clock(*, of_postgresql: bool) -> ColumnElement[float]:
    """Seconds since 1970 by the database's clock, so that machines need not agree."""
    seconds = "extract(epoch FROM clock_timestamp())" if of_postgresql else "((julianday('now') - 2440587.5) * 86400.0)"
    return shared(literal_column(seconds, Double))


def is_over(until: ColumnElement[float], now: ColumnElement[float], longest: float) -> ColumnElement[bool]:
    """Whether what was promised for at most `longest` seconds holds no more, for a statement."""
    return or_(until < now, until > now + 2 * longest)


def holds(until: float, now: float, longest: float) -> bool:
    """Whether it still does."""
    return now < until <= now + 2 * longest
