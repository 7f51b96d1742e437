"""Pace, how fast a rebuild may read the journal, so that live traffic keeps its part: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_LONGEST_S: Final = 1.0
"""Seconds of waiting at a time, between which a sign of life is given."""
_NOTHING: Final = 1e-6
"""So little of a record is left over by rounding, and no time to wait for."""
_SAVED_S: Final = 1.0
"""Seconds' worth of records that may be saved up while the rate is not reached: the greatest burst."""


class Pace:
    """At most `rate` records per second, on the average of any longer time; None is as fast as it goes.

    What was used up beyond what there was (a batch is not cut) is owed, and waited for before the next: so the rate
    holds across batches, whatever their size. `now` and `sleep` are for tests.
    """

    def __init__(
        self, rate: float | None, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"a rate of {rate:g} records per second would never come to an end; it must be above 0")
        self.rate, self._now, self._sleep = rate, now, sleep
        self._tokens, self._at = 0.0, now()

    def batch(self, most: int) -> int:
        """How many records to read at once, so that waiting for them takes no longer than about a second."""
        return most if self.rate is None else max(1, min(most, int(self.rate * _LONGEST_S)))

    def take(self, records: int, sign_of_life: Callable[[], None] = lambda: None) -> None:
        """Records were read: wait until that was allowed."""
        if self.rate is None:
            return
        self._fill(self.rate)
        self._tokens -= records
        while self._tokens < -_NOTHING:
            sign_of_life()
            self._sleep(min(-self._tokens / self.rate, _LONGEST_S))
            self._fill(self.rate)

    def _fill(self, rate: float) -> None:
        now = self._now()
        self._tokens = min(self._tokens + (now - self._at) * rate, rate * _SAVED_S)
        self._at = now


UNPACED: Final = Pace(None)
"""As fast as it goes."""
