"""The bus and its journal. Applications import what is public here from `actionbus`.

Imported when first used: to read the journal takes no bus, no ORM and no Marshmallow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from actionbus.core.bus import Bus
    from actionbus.core.declare.application import Application
    from actionbus.core.declare.arg import Arg
    from actionbus.core.declare.broker import Broker, Message
    from actionbus.core.declare.dependencies import outside, pure
    from actionbus.core.declare.handler import ActionHandler
    from actionbus.core.declare.middleware import ActionCall, Middleware
    from actionbus.core.declare.queue import Queue, Retry, Unique
    from actionbus.core.errors import (
        WHOLE_ACTION,
        ActionBusError,
        ActionCancelled,
        ActionFailed,
        ActionInProgress,
        ActionInterrupted,
        ActionTimeout,
        AttemptsExhausted,
        BrokerUnavailable,
        ConfigurationError,
        HistoryArchived,
        HistoryError,
        IdempotencyConflict,
        InvalidArguments,
        JournalUnavailable,
        LimitExceeded,
        Misuse,
        NotInPreview,
        NotUnique,
        OutcomeArchived,
        OutcomeUnknown,
        PermissionDenied,
        RevertConflict,
        UnknownAction,
    )
    from actionbus.core.gateway.nested import NestedRunner
    from actionbus.core.gateway.postponed import PostponedCall
    from actionbus.core.gateway.ticket import Ticket
    from actionbus.core.history.erasure import Erasure
    from actionbus.core.history.history import History
    from actionbus.core.journal import Journal
    from actionbus.core.queueing.dispatcher import Dispatcher
    from actionbus.core.runner import ActionRunner
    from actionbus.core.values.details import ActionCount, ErrorDetails, JournalStats, RecordedCall
    from actionbus.core.values.determinism import Clock, Ids, Secrets
    from actionbus.core.values.journal_filter import Excluded, JournalFilter
    from actionbus.core.values.limits import Limits
    from actionbus.core.values.preview import Preview
    from actionbus.core.values.record import Outcome, Record

__all__ = [
    "WHOLE_ACTION",
    "ActionBusError",
    "ActionCall",
    "ActionCancelled",
    "ActionCount",
    "ActionFailed",
    "ActionHandler",
    "ActionInProgress",
    "ActionInterrupted",
    "ActionRunner",
    "ActionTimeout",
    "Application",
    "Arg",
    "AttemptsExhausted",
    "Broker",
    "BrokerUnavailable",
    "Bus",
    "Clock",
    "ConfigurationError",
    "Dispatcher",
    "Erasure",
    "ErrorDetails",
    "Excluded",
    "History",
    "HistoryArchived",
    "HistoryError",
    "IdempotencyConflict",
    "Ids",
    "InvalidArguments",
    "Journal",
    "JournalFilter",
    "JournalStats",
    "JournalUnavailable",
    "LimitExceeded",
    "Limits",
    "Message",
    "Middleware",
    "Misuse",
    "NestedRunner",
    "NotInPreview",
    "NotUnique",
    "Outcome",
    "OutcomeArchived",
    "OutcomeUnknown",
    "PermissionDenied",
    "PostponedCall",
    "Preview",
    "Queue",
    "Record",
    "RecordedCall",
    "Retry",
    "RevertConflict",
    "Secrets",
    "Ticket",
    "Unique",
    "UnknownAction",
    "outside",
    "pure",
]

_HOMES: Final = {
    "bus": "Bus",
    "declare.application": "Application",
    "declare.arg": "Arg",
    "declare.broker": "Broker Message",
    "declare.dependencies": "outside pure",
    "declare.handler": "ActionHandler",
    "declare.middleware": "ActionCall Middleware",
    "declare.queue": "Queue Retry Unique",
    "gateway.nested": "NestedRunner",
    "gateway.postponed": "PostponedCall",
    "gateway.ticket": "Ticket",
    "history.erasure": "Erasure",
    "history.history": "History",
    "journal": "Journal",
    "queueing.dispatcher": "Dispatcher",
    "runner": "ActionRunner",
    "values.details": "ActionCount ErrorDetails JournalStats RecordedCall",
    "values.determinism": "Clock Ids Secrets",
    "values.journal_filter": "Excluded JournalFilter",
    "values.limits": "Limits",
    "values.preview": "Preview",
    "values.record": "Outcome Record",
}
"""Where each of them is written, unless it is an error: the module, and its names."""

if __name__ != "actionbus.core":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.core")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'actionbus.core' has no attribute {name!r}")
    home = next((each for each, names in _HOMES.items() if name in names.split()), "errors")
    globals()[name] = found = getattr(import_module(f"actionbus.core.{home}"), name)
    return found
