"""The errors that the gateway raises; callers catch these, adapters translate them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from actionbus.core.values.readable import WHOLE_ACTION as WHOLE_ACTION
from actionbus.core.values.readable import readable
from actionbus.core.values.record import Outcome

FieldErrors = dict[str, Any]
"""Field name -> list of messages; for nested schemas and lists a dict, by name or by index as text (`"0"`)."""


class ActionBusError(Exception):
    """Base of every error raised by actionbus."""

    action_id: UUID | None = None


class ConfigurationError(ActionBusError):
    """The application's declaration is wrong; raised when the Bus is built.

    `problems` lists every mistake found, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(["the application cannot be used:", *(f"  - {p}" for p in problems)]))


class UnknownAction(ActionBusError):
    """No action of that name is declared in the application's packages."""


class InvalidArguments(ActionBusError):
    """The arguments were refused; `errors` maps each field to its messages: text, whatever it was made of, and no more
    than can be read."""

    def __init__(self, errors: Mapping[Any, Any], message: str | None = None) -> None:
        self.errors: FieldErrors = readable(errors)
        super().__init__(message or "; ".join(f"{field}: {_flat(told)}" for field, told in self.errors.items()))


class LimitExceeded(InvalidArguments):
    """The arguments are larger, deeper or more numerous than the application's `Limits` allow."""


class PermissionDenied(ActionBusError):
    """The checkpoint refused the actor."""


class IdempotencyConflict(ActionBusError):
    """The idempotency key was used before, with other arguments."""


class ActionInProgress(ActionBusError):
    """An action with this idempotency key has no outcome yet."""


class ActionInterrupted(ActionBusError):
    """The action was cut off by a crash, and recovery settled it: nothing of it took effect in the database.

    Calls to the outside may have been made; nothing tells which.
    """


class ActionFailed(ActionBusError):
    """A repeated idempotency key whose first outcome, `outcome`, was no success."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)


class OutcomeUnknown(ActionBusError):
    """The database went away while the action was committing and could not be asked since.

    Ask `bus.journal.get(action_id)` once it is back, or repeat the call with the same idempotency key.
    """


class JournalUnavailable(ActionBusError):
    """The journal could not be written. The action changed nothing; the cause is chained."""


class AttemptsExhausted(ActionBusError):
    """A queued action was begun as often as is allowed, and no attempt came to an end; the last outcome it gets."""


class AttemptUnfinished(ActionBusError):
    """Internal: an attempt at a queued action came to no end, and is to be made again."""


class Misuse(ActionBusError):
    """A handler or caller did what the gateway cannot allow; the message says what to do instead."""


class CommitConflict(ActionBusError):
    """Internal: an outcome for the action is already in the journal. It is the answer."""


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from or during, each once."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _flat(told: Any) -> str:
    if isinstance(told, list):
        return " ".join(_flat(each) for each in told)
    if isinstance(told, dict):
        return "; ".join(f"{key}: {_flat(each)}" for key, each in told.items())
    return str(told)


class HistoryError(ActionBusError):
    """The row history cannot answer; the message says what there is instead."""
