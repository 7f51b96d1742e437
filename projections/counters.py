"""Counters of this process: what its feeders and deliveries did, and `adapters.metrics` shows."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

NAMES: Final = {
    "records": "Records absorbed",
    "documents": "Documents written",
    "conflicts": "Documents that were there already when they were written",
    "refusals": "Documents that the store refused",
    "retries": "Batches that the store did not answer, to be written again",
    "bulk_seconds": "Seconds that writing to the store took",
}
"""What is counted of each projection."""
OF_SUBSCRIPTIONS: Final = {
    "records": "Records handed over",
    "failures": "Batches at which the receiver raised",
    "retries": "Batches handed over again after that",
}
"""What is counted of each subscription."""


class Counters:
    """Numbers that only grow, by the name of what they are of; thread-safe."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        """What is counted, each with its meaning."""
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, float]] = {}

    def add(self, name_of: str, **more: float) -> None:
        """Count more of some kind, for the metrics."""
        with self._lock:
            counts = self._counts.setdefault(name_of, defaultdict(float))
            for name, number in more.items():
                counts[name] += number

    def of(self, name_of: str) -> dict[str, float]:
        """All that is counted of one."""
        with self._lock:
            return {name: self._counts.get(name_of, {}).get(name, 0.0) for name in self.names}


COUNTERS: Final = Counters(NAMES)
"""Of the projections in this process."""
DELIVERIES: Final = Counters(OF_SUBSCRIPTIONS)
"""Of the subscriptions in this process."""
