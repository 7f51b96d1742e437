"""What differs between what the journal says of an action and what came of running it again, field by field.

Like is compared with like: rows as the same triggers recorded them, records as the same gateway writes them. What
history does not know is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from actionbus.core import Record
from actionbus.core.gateway.outside_calls import asked_of
from actionbus.core.secrecy.scrubbing import SCRUBBED
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import Net
from actionbus.replay.sandbox.clocks import Clocks
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.row_differences import NOTHING, IsDefault, is_scrubbed, row_differences

_ABSENT: Final = NOTHING
_FLUSHED = re.compile(r"\(raised as a result of [\w -]*autoflush;[^)]*\)\n")
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


class Difference(NamedTuple):
    """One field, or one row: what was recorded, and what came now. `action` is that of a nested action, if in one."""

    field: str
    recorded: Any
    now: Any
    action: str | None = None

    def __str__(self) -> str:
        where = f"{self.action}: " if self.action else ""
        return f"{where}{self.field}: recorded {shown(self.recorded)}, now {shown(self.now)}"


def shown(value: Any, length: int = 120) -> str:
    """A value for a person."""
    if value == _ABSENT:
        return "nothing"
    text = payload.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= length else f"{text[: length - 1]}…"


Present = Callable[[Record], dict[str, Any] | None]
"""Gives an outcome's arguments in the present handler's form, or None where they have it."""


class Comparing(NamedTuple):
    """What a comparison needs to know besides the two sides."""

    tables: Collection[str]
    """Those whose rows are compared, as their shapes name them."""
    present: Present
    again: datetime
    """When the re-run began."""
    is_default: IsDefault = lambda *_: True
    """Whether a column that did not exist in history holds what it does where nobody gives it a value."""


def compare(entry: Entry, rerun: Rerun, recorded: Sequence[Net], how: Comparing) -> list[Difference]:
    """All differences. `recorded` is what history has of the action's rows."""
    clocks = Clocks(entry.started_at, entry.outcome.recorded_at, how.again, rerun.bound, rerun.made_on_update)
    told = clocks if rerun.asks_clock else None
    found = list(_of_one(entry, rerun.outcome, how.present(entry.outcome), told))
    found += _of_nested(entry, rerun, how.present, told)
    found += _of_queued(entry, rerun)
    if entry.outcome.status == rerun.outcome.status == "succeeded":
        found += (Difference(*each) for each in row_differences(recorded, rerun.nets, how, clocks))
    return found


def _of_one(entry: Entry, actual: Row, arguments: Any, clocks: Clocks | None) -> Iterator[Difference]:
    expected = entry.outcome
    if expected.status != actual.status:
        yield Difference("status", expected.status, actual.status)
    told = expected.arguments if arguments is None else arguments
    # An action that was stopped before its arguments were validated has none on record.
    if not _is_text_of(actual.arguments, told):
        yield from _arguments(entry.submitted.arguments, told or {}, _loads(actual.arguments) or {})
    if not _is_text_of(actual.result, expected.result):
        found = _json("result", expected.result, _loads(actual.result))
        yield from (each for each in found if clocks is None or not clocks.explain(each.recorded, each.now))
    if expected.error is not None or actual.error is not None:
        yield from _errors(expected.error, _loads(actual.error))
    if not _is_text_of(actual.calls, expected.calls):
        yield from _calls(expected.calls or [], _loads(actual.calls) or [])


def _arguments(asked: Mapping[str, Any], told: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Nothing where there were no arguments yet, or are none; an optional one that nobody gave came, or went, since."""
    if not told or not now:
        yield from _json("arguments", told or None, now or None)
        return
    for name in dict.fromkeys([*told, *now]):
        if name in asked or (name in told and name in now):
            yield from _json(f"arguments.{name}", told.get(name, _ABSENT), now.get(name, _ABSENT))


def _is_text_of(text: str | None, value: Any) -> bool:
    """Whether a JSON text is exactly what the journal has: the usual case, and the cheapest to see."""
    return text is None if value is None else text == payload.dumps(value)


def _loads(text: str | None) -> Any:
    return payload.loads(text) if text is not None else None


def _json(path: str, expected: Any, actual: Any) -> Iterator[Difference]:
    """The leaves that differ; texts that were scrubbed or erased are the same as anything."""
    if expected in (SCRUBBED, payload.REDACTED) or payload.same(expected, actual):
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in dict.fromkeys([*expected, *actual]):
            yield from _json(f"{path}.{name}", expected.get(name, _ABSENT), actual.get(name, _ABSENT))
    elif isinstance(expected, list) and isinstance(actual, list):
        for number in range(max(len(expected), len(actual))):
            one = expected[number] if number < len(expected) else _ABSENT
            yield from _json(f"{path}[{number}]", one, actual[number] if number < len(actual) else _ABSENT)
    elif not (isinstance(expected, str) and SCRUBBED in expected and is_scrubbed(expected, actual)):
        yield Difference(path, expected, actual)


def _errors(expected: Any, actual: Any) -> Iterator[Difference]:
    """Type, message and fields; where it was raised may move. Of a database's, what it says without values."""
    if expected is None or actual is None:
        if (expected is None) != (actual is None):
            one, other = expected or _ABSENT, actual or _ABSENT
            yield Difference("error", _brief(one), _brief(other))
        return
    for name in ("type", "errors", "message", "sqlstate", "constraint"):
        one, other = expected.get(name), actual.get(name)
        if name == "message":
            one, other = _stable(one), _stable(other)
        yield from _json(f"error.{name}", one, other)


def _stable(message: Any) -> Any:
    """Without addresses in memory, and what SQLAlchemy adds: which flush raised it, the statement, its parameters."""
    if not isinstance(message, str):
        return message
    message = _FLUSHED.sub("", message)
    return _ADDRESS.sub("0x…", message.split("\n[SQL: ")[0].split("\nDETAIL:")[0])


def _brief(error: Any) -> Any:
    return f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else error


def _calls(expected: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for number in range(max(len(expected), len(actual))):
        one = asked_of(expected[number]) if number < len(expected) else _ABSENT
        other = asked_of(actual[number]) if number < len(actual) else _ABSENT
        if isinstance(one, dict) and one.get("call") == "…":
            return
        yield from _json(f"calls[{number}]", one, other)


def _of_nested(entry: Entry, rerun: Rerun, present: Present, clocks: Clocks | None) -> Iterator[Difference]:
    expected = [each for each in entry.all() if each is not entry]
    actual = [row for row in rerun.nested if row.kind == "outcome"]
    for number in range(max(len(expected), len(actual))):
        if number >= len(expected):
            yield Difference(f"nested[{number}]", _ABSENT, actual[number].action)
        elif number >= len(actual):
            yield Difference(f"nested[{number}]", expected[number].outcome.action, _ABSENT)
        elif expected[number].outcome.action != actual[number].action:
            yield Difference(f"nested[{number}].action", expected[number].outcome.action, actual[number].action)
        else:
            outcome = expected[number].outcome
            name = outcome.action
            for each in _of_one(expected[number], actual[number], present(outcome), clocks):
                yield each._replace(action=name)


def _of_queued(entry: Entry, rerun: Rerun) -> Iterator[Difference]:
    """Actions that were queued from inside: their submitted records came with the outcome."""
    if entry.outcome.status != "succeeded" or not rerun.succeeded:
        return
    expected = [(record.action, record.arguments) for each in entry.all() for record in each.queued]
    submitted = {row.action_id: row for row in rerun.nested if row.kind == "submitted"}
    ended = {row.action_id for row in rerun.nested if row.kind == "outcome"}
    actual = [(row.action, _loads(row.arguments)) for row in submitted.values() if row.action_id not in ended]
    for number in range(max(len(expected), len(actual))):
        one = {"action": expected[number][0], "arguments": expected[number][1]} if number < len(expected) else _ABSENT
        other = {"action": actual[number][0], "arguments": actual[number][1]} if number < len(actual) else _ABSENT
        yield from _json(f"queued[{number}]", one, other)
