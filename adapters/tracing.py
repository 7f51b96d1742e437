"""OpenTelemetry spans around actions; active where opentelemetry-api is installed (`actionbus[tracing]`).

A span continues the trace whose W3C `traceparent` is in the runner's context, in a worker too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from actionbus.core import ActionCall, Middleware, Outcome
from actionbus.core.gateway.failures import as_ours, status_of

try:
    from opentelemetry import trace
    from opentelemetry.propagate import extract
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("tracing needs the extra: pip install 'actionbus[tracing]'") from error

R = TypeVar("R")


class Tracing(Middleware):
    """One span per action, called `action NAME`, nested actions inside."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("actionbus", tracer_provider=provider)

    def around_call(self, call: ActionCall, proceed: Callable[[], R]) -> R:
        """Continue the caller's trace: a span that is open here, else the one in the context."""
        here = trace.get_current_span().get_span_context().is_valid
        carrier = {key: str(call.context[key]) for key in ("traceparent", "tracestate") if key in call.context}
        parent = extract(carrier) if carrier and not here else None
        attributes = {
            "actionbus.action": call.action,
            "actionbus.action_id": str(call.action_id),
            "actionbus.mode": call.mode,
            "actionbus.correlation_id": call.correlation_id,
        }
        kind = trace.SpanKind.CONSUMER if call.mode == "worker" else trace.SpanKind.INTERNAL
        with self._tracer.start_as_current_span(
            f"action {call.action}", parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                result = proceed()
            except BaseException as error:
                span.set_attribute("actionbus.status", status_of(as_ours(error)))
                # Not the message: it is the application's, and the journal has it.
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
            span.set_attribute("actionbus.status", result.status if isinstance(result, Outcome) else "queued")
            return result
