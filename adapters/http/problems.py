"""Errors as `application/problem+json` (RFC 9457): what a client did wrong, by field; never a traceback, a secret, or
what a database or the outside said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from actionbus.adapters.http import databases
from actionbus.adapters.http.answer import Answer
from actionbus.adapters.http.refusals import Refusal
from actionbus.core import (
    ActionFailed,
    ActionInProgress,
    ActionInterrupted,
    ConfigurationError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
    LimitExceeded,
    OutcomeArchived,
    OutcomeUnknown,
    PermissionDenied,
    RevertConflict,
    UnknownAction,
)
from actionbus.core.values.payload import dumps
from actionbus.projections.errors import IndexMissing, StoreUnavailable

log = logging.getLogger("actionbus.http")
RETRY_AFTER_S: Final = "5"
_REFUSED: Final = "the arguments were refused; `errors` says which and why"
_CHANGED_NOTHING: Final = "the action failed and changed nothing"
_TAKEN: Final = "a value that must be unique is there already; the action changed nothing"
_LOST: Final = "the database does not answer"
_NOT_SET_UP: Final = "the database lacks a table; whoever runs this service calls `actionbus db upgrade`"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told. `kind` is the last part of its type, a URN that stays the same for good."""

    status: int
    kind: str
    title: str
    detail: str
    errors: Mapping[str, Any] | None = None
    action_id: UUID | None = None
    retry: bool = False

    def told(self, page: str | None = None) -> dict[str, Any]:
        """The problem as JSON of RFC 9457; `page` is where the action can be looked at."""
        told: dict[str, Any] = {
            "type": f"urn:actionbus:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if page:
            told["instance"] = page
        if self.errors:
            told["errors"] = dict(self.errors)
        return told | ({"action_id": str(self.action_id)} if self.action_id is not None else {})

    def answer(self, page: str | None = None) -> Answer:
        """The problem as a response, with its headers."""
        headers = {"Retry-After": RETRY_AFTER_S} if self.retry else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="actionbus"'
        body = dumps(self.told(page)).encode()
        return Answer(self.status, body, "application/problem+json", headers)


def explain(error: BaseException, page_of: Callable[[UUID], str | None] = lambda _: None) -> Answer:
    """The answer to what a call of the gateway raised. Our own mistakes go to the log, with cause.

    `page_of` says where an action can be looked at.
    """
    found = problem_of(error)
    if found.status >= 500 and (found.action_id is not None or not isinstance(error, Refusal)):
        level = logging.WARNING if found.status == 503 else logging.ERROR
        log.log(level, "a request failed with %d: %s", found.status, type(error).__name__, exc_info=error)
    return found.answer(page_of(found.action_id) if found.action_id is not None else None)


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error."""
    action_id = raised_by(error)
    match error:
        case Refusal() if action_id is None:
            return Problem(error.status, error.kind, error.title, str(error), error.errors, retry=error.retry)
        case RevertConflict():
            detail = "rows moved on since, or cannot be put back; `errors` names them, and nothing was changed"
            return Problem(409, "revert-conflict", "Revert conflict", detail, error.errors, action_id)
        case InvalidArguments():
            return _invalid(error.errors, action_id, too_large=isinstance(error, LimitExceeded))
        case UnknownAction():
            return Problem(404, "unknown-action", "Unknown action", str(error), action_id=action_id)
        case PermissionDenied():
            return Problem(403, "denied", "Permission denied", str(error), action_id=action_id)
        case IdempotencyConflict():
            return Problem(409, "idempotency-conflict", "Idempotency conflict", str(error), action_id=action_id)
        case ActionInProgress():
            return Problem(409, "in-progress", "Still in progress", str(error), action_id=action_id, retry=True)
        case ActionInterrupted():
            return Problem(409, "interrupted", "Interrupted", str(error), action_id=action_id)
        case OutcomeArchived():
            detail = "the key was used for an action whose outcome is archived; nothing was run again"
            return Problem(410, "outcome-archived", "Outcome archived", detail, action_id=action_id)
        case ActionFailed():
            return kept(error.outcome.status, error.outcome.error, error.outcome.action_id)
        case OutcomeUnknown():
            return Problem(503, "unavailable", "Unavailable", str(error), action_id=action_id, retry=True)
        case ConfigurationError():
            detail = "the service is not set up for this; whoever runs it finds in its log what is missing"
            return Problem(500, "not-set-up", "Not set up", detail, action_id=action_id)
        case StoreUnavailable() | IndexMissing():
            detail = "the documents cannot be searched now"
            return Problem(503, "unavailable", "Unavailable", detail, action_id=action_id, retry=True)
    return _unexpected(error)


def _unexpected(error: BaseException) -> Problem:
    """An exception that is no answer: the application's own, or the database's."""
    action_id = raised_by(error)
    ours = isinstance(error, JournalUnavailable)
    database = databases.of_database(error) if ours else error if databases.is_of_database(error) else None
    if (ours and database is None) or (database is not None and databases.is_lost(database)):
        return Problem(503, "unavailable", "Unavailable", _LOST, action_id=action_id, retry=True)
    if action_id is not None and databases.is_taken(error):
        return Problem(409, "conflict", "Conflict", _TAKEN, action_id=action_id)
    if database is not None and databases.lacks_a_table(database) and (ours or action_id is None):
        return Problem(500, "not-set-up", "Not set up", _NOT_SET_UP)
    detail = _CHANGED_NOTHING if action_id else "the request failed"
    return Problem(500, "failed", "Failed", detail, action_id=action_id)


def raised_by(error: BaseException) -> UUID | None:
    """The id of the action that raised it: an attribute of our errors, in a note of others. An exception that is raised
    time and again has a note of each, and the last is meant.
    """
    notes = reversed(getattr(error, "__notes__", []))
    note = next((each for each in notes if each.startswith("actionbus:")), None)
    return UUID(note.rsplit(" ", 1)[-1]) if note else getattr(error, "action_id", None)


def kept(status: str, error: Mapping[str, Any] | None, action_id: UUID | None = None) -> Problem:
    """What the caller of an action without success was told, out of its outcome."""
    told = dict(error or {})
    kind, detail = str(told.get("type", "")).rpartition(":")[2], str(told.get("message", ""))
    if status == "denied":
        return Problem(403, "denied", "Permission denied", detail, action_id=action_id)
    if status == "interrupted":
        detail = "the action was interrupted and changed nothing; call again"
        return Problem(409, "interrupted", "Interrupted", detail, action_id=action_id)
    if status == "rejected" and told.get("errors"):
        return _invalid(told["errors"], action_id, too_large=kind == LimitExceeded.__name__)
    if status == "rejected" and kind == IdempotencyConflict.__name__:
        return Problem(409, "idempotency-conflict", "Idempotency conflict", detail, action_id=action_id)
    if status == "rejected":
        return Problem(404, "unknown-action", "Unknown action", detail, action_id=action_id)
    if databases.was_taken(told):
        return Problem(409, "conflict", "Conflict", _TAKEN, action_id=action_id)
    return Problem(500, "failed", "Failed", _CHANGED_NOTHING, action_id=action_id)


def _invalid(errors: Mapping[str, Any], action_id: UUID | None, *, too_large: bool) -> Problem:
    if too_large and any("too large" in str(told) for told in errors.values()):
        return Problem(413, "too-large", "Too large", _REFUSED, errors, action_id)
    return Problem(422, "invalid-arguments", "Invalid arguments", _REFUSED, errors, action_id)
