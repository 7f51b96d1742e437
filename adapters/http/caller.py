"""What an HTTP request says of its caller: correlation id and context."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from actionbus.adapters.http.request import Request

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
_TRACESTATE_LENGTH = 512


def correlation_id_of(request: Request) -> str:
    """`X-Request-ID`, else the trace id of W3C `traceparent`, else one made here.

    One that is too long or not printable ASCII is as good as none.
    """
    given = request.header("X-Request-ID")
    traced = _TRACEPARENT.fullmatch(request.header("traceparent"))
    return given if _REQUEST_ID.fullmatch(given) else traced[1] if traced else uuid4().hex


def context_of(request: Request) -> dict[str, Any]:
    """How the request came, and its place in a trace."""
    context: dict[str, Any] = {"via": "http", "method": request.method, "path": request.path[:200]}
    traceparent = request.header("traceparent")
    if _TRACEPARENT.fullmatch(traceparent):
        context["traceparent"] = traceparent
        tracestate = request.header("tracestate")
        if tracestate and len(tracestate) <= _TRACESTATE_LENGTH and tracestate.isprintable():
            context["tracestate"] = tracestate
    return context
