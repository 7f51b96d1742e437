"""How answers of the row history look in a terminal, and what each rests on. Used by `adapters.cli.history`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from actionbus.adapters.cli.common import print_json
from actionbus.adapters.cli.printing import counted, print_table, say
from actionbus.core.history.answers import Basis
from actionbus.core.history.decoding import UNKNOWN, ErasedValue, shown
from actionbus.core.values.change import Change, Columns, Who
from actionbus.core.values.payload import dumps

_LONGEST: Final = 60
_LONGEST_WORD: Final = 36
"""A UUID."""
WHO: Final = ("position", "at", "action", "actor", "action_id")
"""The columns of `who_cells`."""


def print_changes(changes: Sequence[Change], as_json: bool) -> None:
    """Changes of rows, each under whose it was."""
    for each in changes:
        if as_json:
            print_json(change_json(each) | each.who.shown())
            continue
        say((" ".join(cell for cell in who_cells(each.who) if cell), "dim"), " ", (each.operation, "bold"))
        say_change(each.table, each.key, each.before, each.after)


def print_rows(table: str, rows: Sequence[Columns]) -> None:
    """The rows of one table; what may be a key or a name in them is not cut."""
    say((table, "bold"), f": {counted(len(rows), 'row')}")
    if rows:
        cells = [[cell_text(each) for each in row.values()] for row in rows]
        words = [
            all(len(each) <= _LONGEST_WORD and " " not in each for each in column)
            for column in zip(*cells, strict=True)
        ]
        print_table(list(rows[0]), cells, whole=[name for name, is_word in zip(rows[0], words, strict=True) if is_word])


def change_json(change: Change) -> dict[str, Any]:
    """What became of a row, as JSON; without whose change it was."""
    return {
        "table": change.table,
        "key": row_json(change.key),
        "operation": change.operation,
        "before": row_json(change.before),
        "after": row_json(change.after),
    }


def say_change(table: str, key: Columns, before: Columns | None, after: Columns | None) -> None:
    """What became of one row, column by column."""
    whole = after or before or {}
    named = ", ".join(cell_text(each) for each in key.values())
    sign = "+" if before is None else "-" if after is None else "~"
    say((f"  {sign} {table} {named}", "bold"))
    for name in whole:
        old, new = (before or {}).get(name), (after or {}).get(name)
        if before is not None and after is not None:
            if repr(old) != repr(new):
                say(f"      {name}: {cell_text(old)} → {cell_text(new)}")
        elif name not in key:
            say(f"      {name}: {cell_text(whole[name])}")


def who_cells(who: Who) -> list[str]:
    """Whose a change was, as cells of a table."""
    told = who.shown()
    position = "-" if told["position"] is None else str(told["position"])
    if told["bypass"] is None:
        return [position, time_text(told["at"]), told["action"], told["actor"] or "-", str(told["action_id"])]
    named = ", ".join(f"{name}={value}" for name, value in told["bypass"].items() if value not in (None, "", False))
    return [position, time_text(told["at"]), "bypass", named, str(told["action_id"] or "")]


def time_text(moment: datetime | None) -> str:
    """In UTC, to the second."""
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def row_json(row: Columns | None) -> dict[str, Any] | None:
    """A row as JSON."""
    return None if row is None else {name: shown(value) for name, value in row.items()}


def cell_text(value: Any) -> str:
    """A value for a person; what is missing is told apart: NULL from the text, unknown from NULL."""
    if value is UNKNOWN:
        return "(unknown)"
    if isinstance(value, ErasedValue):
        return "(erased)"
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        text = "\\x" + value.hex()
    elif isinstance(value, (datetime, date, time)):
        text = value.isoformat()
    elif isinstance(value, (str, timedelta)):
        text = str(value)
    else:
        text = dumps(value) if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def tell(basis: Basis) -> None:
    """What the answer rests on, where that is not the whole truth: on standard error, beside the answer."""
    for table in basis.tables:
        if table.withheld:
            note(f"{table.table}: never recorded: {', '.join(table.withheld)}")
        for gap in table.gaps:
            key = ", ".join(cell_text(each) for each in gap.key.values())
            where = f" at position {gap.position}" if gap.position else ""
            note(f"a gap in {table.table}{' ' + key if key else ''}{where}: {gap.why}; a new baseline ends it")
        if table.problems:
            since = (
                f", unrecorded since position {table.unrecorded_since}" if table.unrecorded_since is not None else ""
            )
            note(
                f"{table.table} is not whole{since}: {'; '.join(table.problems)}; `actionbus history install` mends it"
            )
    if basis.unrecorded:
        note(f"not recorded yet at position {basis.position}: {', '.join(basis.unrecorded)}")
    if basis.waiting:
        note(f"{basis.waiting} changes past the gateway are not at a position yet; the next action gives them one")


def note(text: str) -> None:
    """A line beside the answer, on standard error."""
    say(("note:", "yellow"), f" {text}", stderr=True)
