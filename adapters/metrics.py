"""Prometheus metrics: actions counted and timed as they run, projections and queued actions looked at with every
scrape. Needs the extra `actionbus[metrics]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from actionbus.core import ActionCall, Bus, Middleware, Outcome, UnknownAction
from actionbus.core.errors import AttemptUnfinished
from actionbus.core.gateway.failures import as_ours, status_of
from actionbus.projections import Projections

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.core import GaugeMetricFamily
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("metrics need the extra: pip install 'actionbus[metrics]'") from error


R = TypeVar("R")
_ACTIONS = Counter("actionbus_actions", "Actions by what came of them", ["action", "status"])
_SECONDS = Histogram("actionbus_action_seconds", "How long actions took, both records included", ["action", "status"])
_UNKNOWN = "(unknown)"


class ActionMetrics(Middleware):
    """Counts and times every action by name and status, in the process's registry."""

    def around_call(self, call: ActionCall, proceed: Callable[[], R]) -> R:
        """Besides the five statuses there are `queued`, `unfinished` (tried again later) and `repeated`."""
        began = time.perf_counter()
        name = call.action
        try:
            result = proceed()
        except BaseException as error:
            status = "unfinished" if isinstance(error, AttemptUnfinished) else status_of(as_ours(error))
            # Names that callers made up must not become time series.
            self._note(_UNKNOWN if isinstance(error, UnknownAction) else name, status, began)
            raise
        if not isinstance(result, Outcome):
            self._note(name, "queued", began)
        else:
            self._note(name, "repeated" if result.repeated else result.status, began)
        return result

    def _note(self, action: str, status: str, began: float) -> None:
        _ACTIONS.labels(action, status).inc()
        _SECONDS.labels(action, status).observe(time.perf_counter() - began)


class RunCollector:
    """How many queued actions there are in each state."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each state."""
        gauge = GaugeMetricFamily("actionbus_runs", "Queued actions on their way", labels=["state"])
        for state, number in self._bus.runs.counts().items():
            gauge.add_metric([state], number)
        yield gauge


class ProjectionCollector:
    """What `projections status` shows, as gauges."""

    def __init__(self, operations: Projections) -> None:
        self._operations = operations

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each slice of each index."""
        labels = ["projection", "index", "slice", "role"]
        gauges = {
            name: GaugeMetricFamily(f"actionbus_projection_{name}", text, labels=labels)
            for name, text in {
                "position": "Position of the last record absorbed",
                "lag_records": "Records not yet absorbed",
                "lag_seconds": "Age of the oldest record not yet absorbed",
                "alive": "1 if somebody feeds it",
                "healthy": "1 if no operator need look at it",
            }.items()
        }
        for status in self._operations.status():
            where = [status.projection, status.index or "", status.slice, status.role]
            for name, gauge in gauges.items():
                gauge.add_metric(where, float(getattr(status, name)))
        yield from gauges.values()


def serve(operations: Projections, host: str, port: int) -> None:
    """Serve them at http://host:port/metrics from a thread of their own."""
    registry = CollectorRegistry()
    registry.register(ProjectionCollector(operations))
    start_http_server(port, host, registry)
