"""The bus and its journal. Applications import what is public here from `actionbus`."""

from actionbus.core.bus import Bus
from actionbus.core.declare.application import Application
from actionbus.core.declare.arg import Arg
from actionbus.core.declare.dependencies import outside, pure
from actionbus.core.declare.handler import ActionHandler
from actionbus.core.declare.middleware import ActionCall, Middleware
from actionbus.core.declare.queue import BrokerUnavailable, Message, Queue
from actionbus.core.errors import (
    WHOLE_ACTION,
    ActionBusError,
    ActionFailed,
    ActionInProgress,
    ActionInterrupted,
    AttemptsExhausted,
    ConfigurationError,
    HistoryError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
    LimitExceeded,
    Misuse,
    OutcomeUnknown,
    PermissionDenied,
    UnknownAction,
)
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.ticket import Ticket
from actionbus.core.history.erasure import Erasure
from actionbus.core.history.history import History
from actionbus.core.journal import Journal
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.runner import ActionRunner
from actionbus.core.values.determinism import Clock, Ids, Secrets
from actionbus.core.values.journal_filter import JournalFilter
from actionbus.core.values.limits import Limits
from actionbus.core.values.record import Outcome, Record

__all__ = [
    "WHOLE_ACTION",
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
    "Clock",
    "ConfigurationError",
    "Dispatcher",
    "Erasure",
    "History",
    "HistoryError",
    "IdempotencyConflict",
    "Ids",
    "InvalidArguments",
    "Journal",
    "JournalFilter",
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
    "Secrets",
    "Ticket",
    "UnknownAction",
    "outside",
    "pure",
]

if __name__ != "actionbus.core":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.core")

for _each in __all__:  # public names say where they are imported from, in errors, in the journal and in pickles
    if isinstance(_public := globals()[_each], type):
        _public.__module__ = "actionbus"
