"""Prometheus metrics: actions counted and timed as they run; projections, subscriptions, pauses and queued actions
looked at with every scrape. Needs the extra `actionbus[metrics]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from actionbus.core import ActionCall, Bus, Middleware, Outcome, UnknownAction
from actionbus.core.gateway.failures import came_of
from actionbus.projections import Projections, Subscriptions
from actionbus.projections.counters import COUNTERS, DELIVERIES, Counters
from actionbus.projections.operating import Pauses

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
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
            status = came_of(error)
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


class RunCollector(Collector):
    """How many queued actions there are in each state."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each state."""
        gauge = GaugeMetricFamily("actionbus_runs", "Queued actions on their way", labels=["state"])
        for state, number in self._bus.runs.counts().items():
            gauge.add_metric([state], number)
        yield gauge


class ProjectionCollector(Collector):
    """What `projections status` shows, as gauges, and what the feeders of this process did, as counters."""

    def __init__(self, operations: Projections) -> None:
        self._operations = operations

    def collect(self) -> Iterator[Metric]:
        """One sample for each slice of each index, one counter of each kind for each projection."""
        labels = ["projection", "index", "slice", "role"]
        gauges = {
            name: GaugeMetricFamily(f"actionbus_projection_{name}", text, labels=labels)
            for name, text in {
                "position": "Position of the last record absorbed",
                "lag_positions": "Positions beyond the last record absorbed",
                "lag_seconds": "Age of the oldest record not yet absorbed",
                "alive": "1 if somebody feeds it",
                "healthy": "1 if no operator need look at it",
            }.items()
        }
        states = GaugeMetricFamily(
            "actionbus_projection_state", "1 for the state that it is in, and why", labels=[*labels, "state", "reason"]
        )
        seen = {
            name: GaugeMetricFamily(f"actionbus_projection_verified_{name}", text, labels=[*labels, "extent"])
            for name, text in {
                "timestamp_seconds": "When the index was last compared with the journal, in seconds since 1970",
                "documents": "Documents compared then",
                "differences": "Documents of them that were missing, surplus or different",
                "right": "1 if nothing was wrong with the index then",
            }.items()
        }
        for status in self._operations.status():
            where = [status.projection, status.index or "", status.slice, status.role]
            for name, gauge in gauges.items():
                gauge.add_metric(where, float(getattr(status, name)))
            states.add_metric([*where, status.state, status.reason], 1.0)
            if found := status.verified:
                extent = [*where, "all" if found.is_whole else "sample"]
                numbers = (found.verified_at, found.documents, found.differences, found.is_right)
                for gauge, number in zip(seen.values(), numbers, strict=True):
                    gauge.add_metric(extent, float(number))
        yield from gauges.values()
        yield states
        yield from seen.values()
        yield from _counted("projection", self._operations.names(), COUNTERS)


class SubscriptionCollector(Collector):
    """What `subscriptions status` shows, as gauges, and what was handed over in this process, as counters."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def collect(self) -> Iterator[Metric]:
        """One sample for each subscription and stream, one counter of each kind for each."""
        gauges = {
            name: GaugeMetricFamily(f"actionbus_subscription_{name}", text, labels=["subscription"])
            for name, text in {
                "position": "Position of the last record handed over",
                "lag_positions": "Positions beyond the last record handed over",
                "lag_seconds": "Age of the oldest record beyond that",
                "alive": "1 if somebody hands over",
                "healthy": "1 if no operator need look at it",
            }.items()
        }
        states = GaugeMetricFamily(
            "actionbus_subscription_state",
            "1 for the state that it is in, and why",
            labels=["subscription", "state", "reason"],
        )
        found = self._subscriptions.status()
        for status in found:
            for name, gauge in gauges.items():
                gauge.add_metric([status.name], float(getattr(status, name)))
            states.add_metric([status.name, status.state, status.reason], 1.0)
        yield from gauges.values()
        yield states
        yield from _counted("subscription", [status.name for status in found], DELIVERIES)


class PauseCollector(Collector):
    """What operators have paused, and since when."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses

    def collect(self) -> Iterator[Metric]:
        """One sample for each projection and subscription that is paused."""
        gauge = GaugeMetricFamily(
            "actionbus_paused_since_seconds",
            "When a projection or a subscription was paused, in seconds since 1970",
            labels=["name"],
        )
        for pause in self._pauses.all().values():
            gauge.add_metric([pause.name], pause.paused_at)
        yield gauge


def _counted(what: str, of: Iterable[str], counters: Counters) -> Iterator[Metric]:
    each_of = list(of)
    for name, text in counters.names.items():
        counter = CounterMetricFamily(f"actionbus_{what}_{name}", text, labels=[what])
        for one in each_of:
            counter.add_metric([one], counters.of(one)[name])
        yield counter


def collectors_of(bus: Bus, operations: Projections | None) -> list[Collector]:
    """All that look at an application's state with every scrape, but for its queued actions."""
    subscriptions, pauses = SubscriptionCollector(Subscriptions(bus)), PauseCollector(Pauses(bus.backend))
    return [subscriptions, pauses, *([ProjectionCollector(operations)] if operations else [])]


def serve(bus: Bus, operations: Projections, host: str, port: int) -> None:
    """Serve them at http://host:port/metrics from a thread of their own."""
    registry = CollectorRegistry()
    for collector in collectors_of(bus, operations):
        registry.register(collector)
    start_http_server(port, host, registry)
