"""Prometheus metrics of projections, asked for anew with every scrape. Needs the extra `actionbus[metrics]`."""

from __future__ import annotations

from collections.abc import Iterator

from projections import Projections

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import GaugeMetricFamily
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("metrics need the extra: pip install 'actionbus[metrics]'") from error


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
