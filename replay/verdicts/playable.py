"""Why an action cannot be run again, or not be compared: history does not hold what it takes. Used by the replayer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from actionbus.core.history.erasure import ACTION
from actionbus.core.history.reverting import ACTION as REVERT
from actionbus.core.history.shapes import short
from actionbus.core.secrecy.personal import is_erased
from actionbus.core.values import payload
from actionbus.core.values.record import Record
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import Net
from actionbus.replay.past.words import named_in, words_of
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.sandbox.tables import Tables

_OWN: Final = (
    "actionbus.core.history.actions",
    "actionbus.core.history.archive_actions",
    "actionbus.core.history.revert_actions",
    "actionbus.core.queueing.actions",
    "actionbus.projections.actions",
)
"""Where the actions are that a bus has of its own, one in a module of its name."""
_TROUBLE: Final = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that tell of the server rather than of the action."""
_NOT_THE_HANDLERS: Final = frozenset(
    {
        "IdempotencyConflict",
        "LimitExceeded",
        "AttemptsExhausted",
        "JournalUnavailable",
        "KeyboardInterrupt",
        "SystemExit",
        "GeneratorExit",
        "OutcomeUnknown",
    }
)


def why_not_replayable(entry: Entry) -> str | None:
    """Why an action cannot be run again at all, or None."""
    asked, outcome = entry.submitted, entry.outcome
    error: Mapping[str, Any] = outcome.error or {}
    name = str(error.get("type", "")).rpartition(":")[2]
    if outcome.status == "interrupted":
        return "it was interrupted, so nobody knows how far it came"
    if asked.seed is None:
        return "its seed is not there any more"
    if "$summary" in asked.arguments or any(_is_left_out(value) for value in asked.arguments.values()):
        return "its arguments were too large, or not JSON, and were not kept"
    if any(is_erased([each.submitted.arguments, each.outcome.result, each.outcome.calls]) for each in entry.all()):
        return "personal values of it were erased with their subject"
    if asked.action == ACTION and isinstance(outcome.result, dict) and outcome.result.keys() >= {"standing", "keys"}:
        return "it erased a subject, whom no record names"
    if asked.action == REVERT and asked.cause_id is not None and isinstance(outcome.result, dict):
        return "it put rows back from their images; they are taken as recorded"
    if name in _NOT_THE_HANDLERS or str(error.get("sqlstate", "00"))[:2] in _TROUBLE:
        return f"it ended by {name or 'an error'}, which is not the handler's doing"
    if "idempotency_key" in (error.get("errors") or {}):
        return "its idempotency key was refused, and is not kept"
    return None


def why_retired(action: str) -> str:
    """Why an action that the application does not have is not run again."""
    if action in _own_actions():
        return f"{action} is an operation of the bus itself, which no replay runs again"
    return f"there is no action {action} any more"


@cache
def _own_actions() -> frozenset[str]:
    found = (pkgutil.iter_modules(importlib.import_module(package).__path__) for package in _OWN)
    return frozenset(each.name for modules in found for each in modules)


def was_unknown(outcome: Record) -> bool:
    """Whether there was no such action then either."""
    return outcome.error is not None and outcome.error["type"].endswith(":UnknownAction")


def _is_left_out(value: Any) -> bool:
    return isinstance(value, dict) and "$unencodable" in value


def why_rows_not_known(recorded: Iterable[Net]) -> str | None:
    """Why an action cannot be run again given the rows that it wrote, or None: values of them were erased."""
    for net in recorded:
        for held in (net.before, net.after):
            if held is not None and (erased := held.erased()):
                return f"it wrote a row of {short(net.table)} whose {erased[0]} was erased with its subject"
    return None


def why_not_comparable(entry: Entry, rerun: Rerun) -> str | None:
    """Why an action cannot be compared whose secret argument is not kept: with a stand-in for it, it ends otherwise."""
    was, now = entry.outcome, rerun.outcome
    if not rerun.redacted:
        return None
    errors = (payload.loads(now.error) if now.error else {}).get("errors") or {}
    before = (was.error.get("errors") if was.error else None) or {}
    if was.status == now.status and before.keys() == errors.keys():
        return None
    return (
        f"with a stand-in for a secret argument it is {now.status}; the real one, which is not kept, gave {was.status}"
    )


def why_not_known(
    tables: Tables, statements: Iterable[str], beginnings: Mapping[str, int], position: int
) -> str | None:
    """Why what an action at a position saw is not known: of a table that its statements name, or a column, or None."""
    words = words_of(statements)
    for name in named_in(tables.shapes, words):
        if beginnings.get(name, position) >= position:
            begins = beginnings.get(name, "the end")
            return f"it reads or writes {short(name)}, of which nothing is recorded before position {begins}"
        if withheld := words.intersection(tables.shapes[name].withheld):
            return f"it reads or writes {short(name)}.{min(withheld)}, which is withheld from history"
        if erased := words.intersection(tables.erased.get(name, ())):
            return f"it reads or writes {short(name)}.{min(erased)}, of which values were erased with their subject"
    return None
