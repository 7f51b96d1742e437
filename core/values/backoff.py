"""Pauses between attempts: ever longer where one waits for something, at random where several collide."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

LONGEST_PAUSE_S: Final = 3600.0
"""Between two attempts at a queued action, or two messages for it."""


def growing(first: float, longest: float, factor: float = 2.0) -> Iterator[float]:
    """Seconds to wait before each next look: `first`, then `factor` times the one before, `longest` at most."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, longest)


def scattered(attempt: int, first: float, longest: float) -> float:
    """Seconds to wait after the `attempt`-th try, 1 being the first, so that those that collided do not do so again.

    Anything from 0 to `first * 2 ** attempt`: "full jitter"
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return random.uniform(0, min(first * 2 ** min(attempt, 32), longest))


def scattered_doubling(attempt: int, first: float, longest: float) -> float:
    """Seconds to wait after the `attempt`-th try, 1 being the first: `first`, doubled every time, less up to a half."""
    return random.uniform(0.5, 1.0) * min(first * 2.0 ** min(attempt - 1, 32), longest)
