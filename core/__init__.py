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
    AttemptsExhausted,
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
from core.middleware import ActionCall, Middleware
from core.nested import NestedRunner
from core.queue import BrokerUnavailable, Message, Queue
from core.record import Outcome, Record
from core.runner import ActionRunner
from core.ticket import Ticket

__all__ = [
    "ActionBusError",
    "ActionCall",
    "ActionFailed",
    "ActionHandler",
    "ActionInProgress",
    "ActionInterrupted",
    "ActionRunner",
    "Application",
    "Arg",
    "AttemptsExhausted",
    "BrokerUnavailable",
    "Bus",
    "ConfigurationError",
    "IdempotencyConflict",
    "InvalidArguments",
    "Journal",
    "JournalUnavailable",
    "LimitExceeded",
    "Limits",
    "Message",
    "Middleware",
    "Misuse",
    "NestedRunner",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "Queue",
    "Record",
    "Ticket",
    "UnknownAction",
    "outside",
    "pure",
]
