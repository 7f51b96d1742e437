"""What an outcome says of an error. Whatever the error is, there is something to say: no action ends without outcome.

Called by `gateway.execution`, and by whoever runs an action, for what was raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Final, Literal
from uuid import UUID

from marshmallow import ValidationError

from actionbus.core.errors import (
    WHOLE_ACTION,
    ActionBusError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
    OutcomeUnknown,
    PermissionDenied,
    UnknownAction,
)
from actionbus.core.internal_errors import AttemptUnfinished
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.drivers import driver_error
from actionbus.core.values.details import ErrorDetails
from actionbus.core.values.readable import readable, words
from actionbus.core.values.record import Status
from actionbus.core.values.tagged import class_name

_CORE: Final = "actionbus.core."
_ACTIONS: Final = "actionbus.core.actions."
_LONGEST_MESSAGE: Final = 10_000
_FRAMES: Final = 20
_LONGEST_NOTE: Final = 1_000


def status_of(error: BaseException) -> Status:
    """The outcome's status for what an action raised."""
    if isinstance(error, (InvalidArguments, UnknownAction, IdempotencyConflict)):
        return "rejected"
    return "denied" if isinstance(error, PermissionDenied) else "failed"


def came_of(error: BaseException) -> Status | Literal["unfinished"]:
    """What a call ended in that raised, as a middleware sees it: `unfinished` if it is tried again later."""
    return "unfinished" if isinstance(error, AttemptUnfinished) else status_of(as_ours(error))


def as_ours(error: BaseException) -> BaseException:
    """A ValidationError that a handler raised is a rejection; everything else stays what it is.

    So does InvalidArguments, but for errors that were put into it later, or by a class of the application's own.
    """
    if isinstance(error, InvalidArguments):
        with suppress(Exception):
            error.errors = readable(error.errors)
        return error
    if isinstance(error, ValidationError):
        told = error.messages if isinstance(error.messages, dict) else {WHOLE_ACTION: error.messages}
        return InvalidArguments({WHOLE_ACTION if key == "_schema" else key: each for key, each in told.items()})
    return error


def undescribed(error: BaseException, why: BaseException) -> ErrorDetails:
    """An error as the outcome keeps it where no more of it can be kept."""
    return {"type": _class(error), "message": f"(what it says could not be kept: {type(why).__name__})"}


def unsettled(error: BaseException, unwritten: Exception, was_lost: bool) -> ActionBusError:
    """What a caller is told where the outcome of what was raised could not be written."""
    if was_lost:
        return OutcomeUnknown(
            "the database was lost while the action ran and has not come back, so it is not known whether it took "
            "effect; ask bus.journal.get(action_id), or repeat the call with the same idempotency key"
        )
    return JournalUnavailable(
        f"the action changed nothing ({type(error).__name__}), but its outcome could not be written "
        f"({type(unwritten).__name__}); `actionbus journal recover` will settle it"
    )


def describe_error(error: BaseException, scrubber: Scrubber) -> ErrorDetails:
    """An error as the outcome keeps it: type, message, fields, database's codes, and where it was raised."""
    try:
        message = str(error)
    except Exception:
        message = "(its message cannot be read)"
    told: ErrorDetails = {"type": _class(error), "message": scrubber.text(message)[:_LONGEST_MESSAGE]}
    if isinstance(error, InvalidArguments):
        told["errors"] = scrubber.json(error.errors)
    original = driver_error(error)
    if code := getattr(original, "pgcode", None):
        told["sqlstate"] = words(code)
    if constraint := getattr(getattr(original, "diag", None), "constraint_name", None):
        told["constraint"] = words(constraint)
    if not isinstance(error, ActionBusError):
        told["traceback"] = [
            f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if not _is_of_the_gateway(frame)
        ][-_FRAMES:]
    return told


def note_id(error: BaseException, name: str, action_id: UUID) -> None:
    """Tell the action's id: as an attribute of our errors, as a note on others, even of a class that forbids both."""
    with suppress(Exception):
        if not isinstance(error, ActionBusError):
            notes = [*getattr(error, "__notes__", ()), f"actionbus: raised by {name}, action {action_id}"]
            BaseException.__setattr__(error, "__notes__", notes)
        elif error.action_id is None:
            BaseException.__setattr__(error, "action_id", action_id)


def note_rejections(error: BaseException, rejections: Mapping[str, list[str]]) -> None:
    """Add to what was raised after a handler had refused something, what that was: it may well be why."""
    if not isinstance(error, InvalidArguments):
        told = "; ".join(f"{field}: {', '.join(map(words, messages))}" for field, messages in rejections.items())
        note = f"actionbus: rejected before it was raised: {told}"[:_LONGEST_NOTE]
        with suppress(Exception):
            BaseException.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])


def _class(error: BaseException) -> str:
    return class_name(type(error))


def _is_of_the_gateway(frame: FrameType) -> bool:
    """Whether a frame says how the action was run and nothing of what it did."""
    module = str(frame.f_globals.get("__name__"))
    return module.startswith(_CORE) and not module.startswith(_ACTIONS)
