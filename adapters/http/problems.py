"""Errors as `application/problem+json` (RFC 9457): what a client did wrong, by field; never a traceback or a secret."""

from __future__ import annotations

import json
import logging
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from adapters.http.answer import Answer
from adapters.http.refusals import Refused
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


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    errors: dict[str, Any] | None = None,
    action_id: UUID | None = None,
    retry: bool = False,
) -> Answer:
    """An answer. `kind` is the last part of its type, a URN that stays the same for good."""
    told: dict[str, Any] = {"type": f"urn:actionbus:{kind}", "title": title, "status": status, "detail": detail}
    if errors:
        told["errors"] = errors
    if action_id is not None:
        told["action_id"] = str(action_id)
    headers = {"Retry-After": RETRY_AFTER_S} if retry else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="actionbus"'
    return Answer(status, json.dumps(told, default=str).encode(), "application/problem+json", headers)


def explain(error: BaseException) -> Answer:
    """The answer to what a call of the gateway raised."""
    action_id = getattr(error, "action_id", None)
    match error:
        case Refused():
            return problem(error.status, error.kind, error.title, str(error), errors=error.errors)
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


def failed(error: BaseException) -> Answer:
    """The answer to an exception of the application's own: what went wrong stands in the journal and the log."""
    note = next((each for each in getattr(error, "__notes__", []) if each.startswith("actionbus:")), None)
    action_id = UUID(note.rsplit(" ", 1)[-1]) if note else getattr(error, "action_id", None)
    log.error("a request failed: %s", type(error).__name__, exc_info=error)
    detail = "the action failed and changed nothing" if action_id else "the request failed"
    return problem(500, "failed", "Failed", detail, action_id=action_id)


def _repeated(error: ActionFailed) -> Answer:
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


def _invalid(errors: dict[str, Any], action_id: UUID | None) -> Answer:
    told = "the arguments were refused; `errors` says which and why"
    return problem(422, "invalid-arguments", "Invalid arguments", told, errors=errors, action_id=action_id)


def _too_large(error: LimitExceeded) -> bool:
    return any("too large" in str(told) for told in error.errors.values())


def _gently(error: ActionBusError) -> str:
    """Configuration is not for clients to see."""
    return "the service is not set up for this" if isinstance(error, ConfigurationError) else str(error)
