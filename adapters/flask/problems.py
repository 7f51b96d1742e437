"""Errors that views and routes let through become the problem responses of `adapters.http.problems`."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from actionbus.adapters.flask.state import correlation_id, responded, state, tell_server
from actionbus.adapters.http.problems import Problem, explain
from actionbus.adapters.http.refusals import Refusal
from actionbus.core import ActionBusError


def explained(error: BaseException) -> Response:
    """The response to what a call of the gateway raised."""
    return responded(explain(error, state().page_of))


def register_errors(app: Flask, prefix: str) -> None:
    """Let the gateway's errors that views let through become problems, and add the correlation id to responses.

    Where no route of the API is found below `prefix`, that is told in the same form; other paths are the application's.
    """
    ours = tuple(f"{prefix}/{part}" for part in ("actions", "search", "health", "journal", "history"))

    def no_route(error: HTTPException) -> Any:
        return http_problem(error) if request.path.startswith(ours) else error

    app.register_error_handler(404, no_route)
    app.register_error_handler(405, no_route)
    for kind in (ActionBusError, Refusal):
        app.register_error_handler(kind, explained)

    @app.after_request
    def add_request_id(response: Response) -> Response:
        if "actionbus_correlation_id" in g:
            response.headers["X-Request-ID"] = correlation_id()
        tell_server(request.environ)
        return response


def http_problem(error: HTTPException) -> Response:
    """An error of Flask's own, such as 405, in the same form."""
    status = error.code or 500
    name = (error.name or "error").lower().replace(" ", "-")
    response = responded(Problem(status, name, error.name or "Error", (error.description or "")[:500]).answer())
    for key, value in error.get_headers():
        if key.lower() == "allow":
            response.headers[key] = value
    return response
