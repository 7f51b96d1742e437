"""The errors that the core raises, all of them public: callers catch these, adapters translate them.

What rooms of core raise for each other is in `core.internal_errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from actionbus.core.values.base_error import ActionBusError as ActionBusError
from actionbus.core.values.public import public
from actionbus.core.values.readable import WHOLE_ACTION as WHOLE_ACTION
from actionbus.core.values.readable import readable
from actionbus.core.values.record import Outcome

_TOLD: Final = 50
"""Conflicts that a message names."""
FieldErrors = dict[str, Any]
"""Field name -> list of messages; for nested schemas and lists a dict, by name or by index as text (`"0"`)."""


@public
class ConfigurationError(ActionBusError):
    """The application's declaration is wrong; raised when the Bus is built.

    `problems` lists every mistake found, one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(["the application cannot be used:", *(f"  - {p}" for p in problems)]))


@public
class UnknownAction(ActionBusError):
    """No action of that name is declared in the application's packages."""


@public
class InvalidArguments(ActionBusError):
    """The arguments were refused; `errors` maps each field to its messages: text, whatever it was made of, and no more
    than can be read."""

    def __init__(self, errors: Mapping[Any, Any], message: str | None = None) -> None:
        self.errors: FieldErrors = readable(errors)
        super().__init__(message or "; ".join(f"{field}: {_flat(told)}" for field, told in self.errors.items()))


@public
class LimitExceeded(InvalidArguments):
    """The arguments are larger, deeper or more numerous than the application's `Limits` allow."""


class Conflict(NamedTuple):
    """What keeps a row from being put back. `column` is None for the row as a whole; values are shown as texts."""

    table: str
    key: str
    column: str | None
    was: str | None
    """As the action left it."""
    now: str | None
    why: str | None = None
    """Where it is not that the row moved on."""

    def __str__(self) -> str:
        place = f"{self.table}[{self.key}]{'.' + self.column if self.column else ''}"
        return f"{place}: {self.why}" if self.why else f"{place}: was {self.was}, now {self.now}"


@public
class RevertConflict(InvalidArguments):
    """An action cannot be reverted; nothing was changed. `conflicts` are what is in the way."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        told = [str(each) for each in self.conflicts[:_TOLD]]
        more = len(self.conflicts) - len(told)
        super().__init__({"action_id": told + ([f"and {more} more"] if more > 0 else [])})


@public
class PermissionDenied(ActionBusError):
    """The checkpoint refused the actor."""


@public
class IdempotencyConflict(ActionBusError):
    """The idempotency key was used before, with other arguments."""


@public
class ActionInProgress(ActionBusError):
    """An action with this idempotency key has no outcome yet."""


@public
class ActionInterrupted(ActionBusError):
    """The action was cut off by a crash, and recovery settled it: nothing of it took effect in the database.

    Calls to the outside may have been made; nothing tells which.
    """


@public
class ActionFailed(ActionBusError):
    """A repeated idempotency key whose first outcome, `outcome`, was no success."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)


@public
class OutcomeUnknown(ActionBusError):
    """The database went away while the action was committing and could not be asked since.

    Ask `bus.journal.get(action_id)` once it is back, or repeat the call with the same idempotency key.
    """


@public
class JournalUnavailable(ActionBusError):
    """The journal could not be written. The action changed nothing; the cause is chained."""


@public
class AttemptsExhausted(ActionBusError):
    """A queued action was begun as often as is allowed, and no attempt finished; the last outcome it gets."""


@public
class ActionTimeout(ActionBusError):
    """An attempt at a queued action took longer than its handler's `timeout`."""


@public
class ActionCancelled(ActionBusError):
    """An operator cancelled a queued action. A handler that finds `self.cancelled` raises it."""


@public
class NotUnique(InvalidArguments):
    """Another action is queued, or was lately, that its handler's `unique` takes for the same; `first_id` is its id."""

    first_id: UUID | None = None


@public
class BrokerUnavailable(ActionBusError):
    """The broker did not take the message. The action stays queued, and is published again later."""


@public
class Misuse(ActionBusError):
    """A handler or caller did what the gateway cannot allow; the message says what to do instead."""


@public
class NotInPreview(ActionBusError):
    """A handler that is previewed asked the outside world, and nothing is declared to answer it there."""


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


@public
class HistoryError(ActionBusError):
    """The row history cannot answer; the message says what there is instead."""


@public
class HistoryArchived(HistoryError):
    """What was asked for lies before the position where history begins here; the message says where it is archived."""


@public
class OutcomeArchived(ActionBusError):
    """A repeated idempotency key, whose first outcome is archived; nothing was run. The message says where it is."""
