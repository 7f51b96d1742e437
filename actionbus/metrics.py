"""Prometheus metrics of actions; see docs/actions.md. Needs `actionbus[metrics]`."""

from actionbus.adapters.metrics import ActionMetrics

__all__ = ["ActionMetrics"]
