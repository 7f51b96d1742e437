"""What differs between what the journal says of an action and what came of running it again, field by field.

Like is compared with like: both sides come from the same recorder. What the journal does not know is not compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Table

from actionbus.core import Record
from actionbus.core.gateway.outside_calls import asked_of
from actionbus.core.secrecy.scrubbing import SCRUBBED
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.replay.constraints import constraint_of
from actionbus.replay.history import Entry
from actionbus.replay.sandbox import Rerun

_ABSENT: Final = "(absent)"
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_ENVIRONMENT = ("trigger ", "cascade ")
"""Reasons for `incomplete` that tell of the database's schema rather than of what the action did."""

Tables = Sequence[Table] | None
"""The business tables, where the sandbox is of another dialect than the journal; else None."""


class Difference(NamedTuple):
    """One field: what the journal says, and what came now. `action` is the nested action's name if it is in one."""

    field: str
    expected: Any
    actual: Any
    action: str | None = None

    def __str__(self) -> str:
        where = f"{self.action}: " if self.action else ""
        return f"{where}{self.field}: expected {shown(self.expected)}, got {shown(self.actual)}"


def shown(value: Any, length: int = 120) -> str:
    """A value for a person."""
    if value == _ABSENT:
        return "nothing"
    text = payload.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= length else f"{text[: length - 1]}…"


Present = Callable[[Record], dict[str, Any] | None]
"""Gives an outcome's arguments in the present handler's form, or None where they have it."""


def compare(
    entry: Entry, rerun: Rerun, *, tables: Tables = None, present: Present = lambda outcome: None
) -> list[Difference]:
    """All differences."""
    found = list(_of_one(entry.outcome, rerun.outcome, tables, present(entry.outcome)))
    found += _of_nested(entry, rerun, tables, present)
    found += _of_queued(entry, rerun)
    return found


def _of_one(expected: Record, actual: Row, tables: Tables, arguments: Any = None) -> Iterator[Difference]:
    if expected.status != actual.status:
        yield Difference("status", expected.status, actual.status)
    told = expected.arguments if arguments is None else arguments
    # An action that was stopped before its arguments were validated has none on record.
    if not _is_text_of(actual.arguments, told):
        yield from _json("arguments", told or None, _loads(actual.arguments) or None)
    if not _is_text_of(actual.result, expected.result):
        yield from _json("result", expected.result, _loads(actual.result))
    if expected.error is not None or actual.error is not None:
        yield from _errors(expected.error, _loads(actual.error), tables)
    if not _is_text_of(actual.calls, expected.calls):
        yield from _calls(expected.calls or [], _loads(actual.calls) or [])
    if expected.status == actual.status == "succeeded" and not _is_text_of(actual.touched, expected.touched):
        yield from _rows(expected.touched or {}, _loads(actual.touched) or {}, tables)


def _is_text_of(text: str | None, value: Any) -> bool:
    """Whether a JSON text is exactly what the journal has: the usual case, and the cheapest to see."""
    return text is None if value is None else text == payload.dumps(value)


def _loads(text: str | None) -> Any:
    return payload.loads(text) if text is not None else None


def _json(path: str, expected: Any, actual: Any) -> Iterator[Difference]:
    """The leaves that differ; texts, keys and digests that were scrubbed or erased are the same as anything."""
    if expected in (SCRUBBED, payload.REDACTED) or payload.same(expected, actual):
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in dict.fromkeys([*expected, *actual]):
            yield from _json(f"{path}.{name}", expected.get(name, _ABSENT), actual.get(name, _ABSENT))
    elif isinstance(expected, list) and isinstance(actual, list):
        for number in range(max(len(expected), len(actual))):
            one = expected[number] if number < len(expected) else _ABSENT
            yield from _json(f"{path}[{number}]", one, actual[number] if number < len(actual) else _ABSENT)
    elif isinstance(expected, str) and isinstance(actual, str) and SCRUBBED in expected:
        if not _matches_scrubbed(expected, actual):
            yield Difference(path, expected, actual)
    else:
        yield Difference(path, expected, actual)


def _matches_scrubbed(expected: str, actual: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split(SCRUBBED))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def _errors(expected: Any, actual: Any, tables: Tables) -> Iterator[Difference]:
    """Type, message and fields; where it was raised may move. Of another database's, type and constraint alone."""
    if expected is None or actual is None:
        if (expected is None) != (actual is None):
            one, other = expected or _ABSENT, actual or _ABSENT
            yield Difference("error", _brief(one), _brief(other))
        return
    is_database = "sqlstate" in expected or str(expected.get("type", "")).startswith("sqlalchemy.exc:")
    names = ["type", "errors", "message", "sqlstate", "constraint"]
    if is_database and tables is not None:
        names = ["type"]
        broken = constraint_of(expected, tables), constraint_of(actual, tables)
        if None not in broken:
            yield from _json("error.constraint", *broken)
    for name in names:
        one, other = expected.get(name), actual.get(name)
        if name == "message":
            one, other = _stable(one), _stable(other)
        yield from _json(f"error.{name}", one, other)


def _stable(message: Any) -> Any:
    return _ADDRESS.sub("0x…", message) if isinstance(message, str) else message


def _brief(error: Any) -> Any:
    return f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else error


def _calls(expected: Sequence[Mapping[str, Any]], actual: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for number in range(max(len(expected), len(actual))):
        one = asked_of(expected[number]) if number < len(expected) else _ABSENT
        other = asked_of(actual[number]) if number < len(actual) else _ABSENT
        if isinstance(one, dict) and one.get("call") == "…":
            return
        yield from _json(f"calls[{number}]", one, other)


def _rows(expected: Mapping[str, Any], actual: Mapping[str, Any], tables: Tables) -> Iterator[Difference]:
    """Rows by table, key, operation and columns, and the digest of their values; in any order."""
    reasons = [_reasons(each) for each in (expected, actual)]
    truncated = any(reason.startswith("more than ") for reason in reasons[0])
    wanted, got = _by_row(expected), _by_row(actual)
    for row in dict.fromkeys([*wanted, *got]):
        one, other = wanted.get(row, Counter()), got.get(row, Counter())
        if one == other or (truncated and not one - other):
            continue
        yield from _row(row, one, other, tables)
    if not truncated and reasons[0] != reasons[1]:
        yield Difference("rows.incomplete", sorted(reasons[0]), sorted(reasons[1]))


_Row = tuple[str, str, str]


def _by_row(touched: Mapping[str, Any]) -> dict[_Row, Counter[tuple[str, str | None]]]:
    found: dict[_Row, Counter[tuple[str, str | None]]] = {}
    for row in touched.get("rows", ()):
        name = (row["table"], payload.dumps(row["key"]), row["op"])
        told = (", ".join(row.get("columns", ())), row.get("digest"))
        found.setdefault(name, Counter())[told] += 1
    return found


def _row(
    row: _Row,
    one: Counter[tuple[str, str | None]],
    other: Counter[tuple[str, str | None]],
    tables: Tables,
) -> Iterator[Difference]:
    table, key, operation = row
    path = f"rows.{table}{key}.{operation}"
    if one.total() != other.total():
        yield Difference(path, one.total() or _ABSENT, other.total() or _ABSENT)
        return
    columns = [sorted(each for each, _ in counted.elements()) for counted in (one, other)]
    if columns[0] != columns[1]:
        yield Difference(f"{path}.columns", "; ".join(columns[0]), "; ".join(columns[1]))
        return
    digests = [[digest for _, digest in counted.elements()] for counted in (one, other)]
    if None not in digests[0] and tables is None:
        yield Difference(f"{path}.values", digests[0], digests[1])


def _reasons(touched: Mapping[str, Any]) -> set[str]:
    return {each for each in touched.get("incomplete", ()) if not each.startswith(_ENVIRONMENT)}


def _of_nested(entry: Entry, rerun: Rerun, tables: Tables, present: Present) -> Iterator[Difference]:
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
            name = expected[number].outcome.action
            outcome = expected[number].outcome
            for each in _of_one(outcome, actual[number], tables, present(outcome)):
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
