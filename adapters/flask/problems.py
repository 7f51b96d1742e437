"""Errors as `application/problem+json` (RFC 9457): what a client did wrong, by field; never a traceback or a secret."""

from __future__ import annotations

import json
import logging
from typing import Any, Final
from uuid import UUID

from flask import Flask, Response, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from adapters.flask.caller import correlation_id_of
from core import (
    ActionBusError,
    ActionFailed,
    ActionInProgress,
    ActionInterrupted,
    ConfigurationError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
    LimitExceeded,
    OutcomeUnknown,
    PermissionDenied,
    UnknownAction,
)
from projections.errors import ProjectionError

log = logging.getLogger("actionbus.http")
RETRY_AFTER_S: Final = "5"


class Unauthorized(Exception):
    """The request does not say who sends it, or not so that it can be believed."""


class Malformed(Exception):
    """The request cannot be read; `errors` says which part."""

    def __init__(self, detail: str, errors: dict[str, Any] | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class NotFound(Exception):
    """There is no such thing, or it is not for this caller, who is not told which."""


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    errors: dict[str, Any] | None = None,
    action_id: UUID | None = None,
    retry: bool = False,
) -> Response:
    """A response. `kind` is the last part of its type, a URN that stays the same for good."""
    told: dict[str, Any] = {"type": f"urn:actionbus:{kind}", "title": title, "status": status, "detail": detail}
    if errors:
        told["errors"] = errors
    if action_id is not None:
        told["action_id"] = str(action_id)
    response = Response(json.dumps(told, default=str), status, content_type="application/problem+json")
    if retry:
        response.headers["Retry-After"] = RETRY_AFTER_S
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="actionbus"'
    return response


def explain(error: BaseException) -> Response:
    """The response for what a call of the gateway raised."""
    action_id = getattr(error, "action_id", None)
    match error:
        case Unauthorized():
            return problem(401, "unauthorized", "Unauthorized", "send a valid token: Authorization: Bearer …")
        case Malformed():
            return problem(400, "malformed", "Malformed request", str(error), errors=error.errors)
        case NotFound():
            return problem(404, "not-found", "Not found", str(error))
        case LimitExceeded() if _too_large(error):
            return problem(413, "too-large", "Too large", str(error), errors=error.errors, action_id=action_id)
        case InvalidArguments():
            told = "the arguments were refused; `errors` says which and why"
            return problem(
                422, "invalid-arguments", "Invalid arguments", told, errors=error.errors, action_id=action_id
            )
        case UnknownAction():
            return problem(404, "unknown-action", "Unknown action", str(error), action_id=action_id)
        case PermissionDenied():
            return problem(403, "denied", "Permission denied", str(error), action_id=action_id)
        case IdempotencyConflict():
            return problem(409, "idempotency-conflict", "Idempotency conflict", str(error), action_id=action_id)
        case ActionInProgress():
            return problem(409, "in-progress", "Still in progress", str(error), action_id=action_id, retry=True)
        case ActionInterrupted():
            return problem(409, "interrupted", "Interrupted", str(error), action_id=action_id)
        case ActionFailed():
            return _repeated(error)
        case JournalUnavailable() | OutcomeUnknown() | ConfigurationError():
            return problem(503, "unavailable", "Unavailable", _gently(error), action_id=action_id, retry=True)
        case ProjectionError():
            return problem(503, "unavailable", "Unavailable", str(error), retry=True)
        case SQLAlchemyError():
            return problem(503, "unavailable", "Unavailable", "the database does not answer", retry=True)
    return failed(error)


def failed(error: BaseException) -> Response:
    """The response for an exception of the application's own: what went wrong stands in the journal and the log."""
    note = next((each for each in getattr(error, "__notes__", []) if each.startswith("actionbus:")), None)
    action_id = UUID(note.rsplit(" ", 1)[-1]) if note else getattr(error, "action_id", None)
    log.error("a request failed: %s", type(error).__name__, exc_info=error)
    detail = "the action failed and changed nothing" if action_id else "the request failed"
    return problem(500, "failed", "Failed", detail, action_id=action_id)


def register_errors(app: Flask, prefix: str) -> None:
    """Let the gateway's errors that views let through become problems, and add the correlation id to responses.

    Where no route of the API is found below `prefix`, that is told in the same form; other paths are the application's.
    """
    ours = tuple(f"{prefix}/{part}" for part in ("actions", "search", "health"))

    def no_route(error: HTTPException) -> Any:
        return http_problem(error) if request.path.startswith(ours) else error

    app.register_error_handler(404, no_route)
    app.register_error_handler(405, no_route)
    for kind in (ActionBusError, Unauthorized, Malformed, NotFound):
        app.register_error_handler(kind, explain)

    @app.after_request
    def add_request_id(response: Response) -> Response:
        if "actionbus_correlation_id" in g:
            response.headers["X-Request-ID"] = correlation_id_of(request)
        return response


def http_problem(error: HTTPException) -> Response:
    """An error of Flask's own, such as 405, in the same form."""
    status = error.code or 500
    name = (error.name or "error").lower().replace(" ", "-")
    response = problem(status, name, error.name or "Error", (error.description or "")[:500])
    for key, value in error.get_headers():
        if key.lower() == "allow":
            response.headers[key] = value
    return response


def _repeated(error: ActionFailed) -> Response:
    """The same answer as the call that first used the idempotency key got."""
    outcome = error.outcome
    told = outcome.error or {}
    detail = str(told.get("message", ""))
    if outcome.status == "denied":
        return problem(403, "denied", "Permission denied", detail, action_id=outcome.action_id)
    if outcome.status == "rejected" and told.get("errors"):
        return _invalid(told["errors"], outcome.action_id)
    if outcome.status == "rejected":
        return problem(404, "unknown-action", "Unknown action", detail, action_id=outcome.action_id)
    return problem(500, "failed", "Failed", "the action failed and changed nothing", action_id=outcome.action_id)


def _invalid(errors: dict[str, Any], action_id: UUID | None) -> Response:
    told = "the arguments were refused; `errors` says which and why"
    return problem(422, "invalid-arguments", "Invalid arguments", told, errors=errors, action_id=action_id)


def _too_large(error: LimitExceeded) -> bool:
    return any("too large" in str(told) for told in error.errors.values())


def _gently(error: ActionBusError) -> str:
    """Configuration is not for clients to see."""
    return "the service is not set up for this" if isinstance(error, ConfigurationError) else str(error)
