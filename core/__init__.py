"""actionbus: an event-sourced command bus. Everything that an application imports from the core is here."""

from core.application import Application
from core.arg import Arg
from core.bus import Bus
from core.dependencies import outside, pure
from core.errors import (
    ActionBusError,
    ActionFailed,
    ActionInProgress,
    ActionInterrupted,
    ConfigurationError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
    LimitExceeded,
    Misuse,
    OutcomeUnknown,
    PermissionDenied,
    UnknownAction,
)
from core.handler import ActionHandler
from core.journal import Journal
from core.limits import Limits
from core.nested import NestedRunner
from core.record import Outcome, Record
from core.runner import ActionRunner

__all__ = [
    "ActionBusError",
    "ActionFailed",
    "ActionHandler",
    "ActionInProgress",
    "ActionInterrupted",
    "ActionRunner",
    "Application",
    "Arg",
    "Bus",
    "ConfigurationError",
    "IdempotencyConflict",
    "InvalidArguments",
    "Journal",
    "JournalUnavailable",
    "LimitExceeded",
    "Limits",
    "Misuse",
    "NestedRunner",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "Record",
    "UnknownAction",
    "outside",
    "pure",
]
