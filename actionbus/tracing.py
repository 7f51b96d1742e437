"""OpenTelemetry spans around actions; see docs/actions.md. Needs `actionbus[tracing]`."""

from actionbus.adapters.tracing import Tracing

__all__ = ["Tracing"]
