"""actionbus: an event-sourced command bus. Everything that an application imports from the core is here.

Imported when first used, so that what merely finds this package, such as pytest its plugin, does not pay for it all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actionbus.core import (
        WHOLE_ACTION,
        ActionBusError,
        ActionCall,
        ActionFailed,
        ActionHandler,
        ActionInProgress,
        ActionInterrupted,
        ActionRunner,
        Application,
        Arg,
        AttemptsExhausted,
        BrokerUnavailable,
        Bus,
        Clock,
        ConfigurationError,
        Dispatcher,
        Erasure,
        History,
        HistoryError,
        IdempotencyConflict,
        Ids,
        InvalidArguments,
        Journal,
        JournalFilter,
        JournalUnavailable,
        LimitExceeded,
        Limits,
        Message,
        Middleware,
        Misuse,
        NestedRunner,
        Outcome,
        OutcomeUnknown,
        PermissionDenied,
        Queue,
        Record,
        Secrets,
        Ticket,
        UnknownAction,
        outside,
        pure,
    )

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'actionbus' has no attribute {name!r}")
    return getattr(import_module("actionbus.core"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
