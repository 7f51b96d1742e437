"""`actionbus history`: what was, told from recorded row images. No code of an application is run, nor one needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import click

from actionbus.adapters.cli.common import (
    FAILED,
    Environment,
    fail,
    json_option,
    pass_environment,
    position_or_id,
    print_json,
    print_table,
    say,
)
from actionbus.adapters.cli.documents import documents
from actionbus.adapters.cli.erase import erase
from actionbus.adapters.cli.recording import COMMANDS, backend_of, moment_text
from actionbus.core import History
from actionbus.core.history.answers import Basis
from actionbus.core.history.decoding import UNKNOWN, Erased, shown
from actionbus.core.values.change import Change, Columns, Who
from actionbus.core.values.payload import dumps

_LONGEST: Final = 60
_at_option = click.option(
    "--at", default="end", show_default=True, metavar="POINT", help="POSITION, ISO 8601 TIME, ACTION_ID, start or end."
)
_key_argument = click.argument("key", metavar="KEY")


@click.group()
def history() -> None:
    """Tell what rows were and who changed them, from what was recorded.

    \b
    Nothing is run: the answers are the same with any code, and with none; --database is enough.
    A POINT in history is a position, a time, an action's id, `start` or `end`.
    A KEY of several columns is given with commas between them.
    A bypass is a transaction that wrote past the gateway.
    """


for command in (documents, erase, *COMMANDS):
    history.add_command(command)


def _history(env: Environment) -> History:
    return History(backend_of(env))


def _no_row(table: str, key: str, basis: Basis) -> SystemExit:
    return fail(f"no row {key} of {table} is on record up to position {basis.position}", FAILED)


def _key(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@history.command()
@click.option("--table", metavar="TABLE", help="Only this one; all by default.")
@_at_option
@click.option("--after", metavar="KEY", help="With --table: only rows beyond this key, which ended the page before.")
@click.option("-n", "--limit", type=click.IntRange(1), default=None, help="With --table: at most so many rows.")
@json_option
@pass_environment
def state(
    env: Environment, table: str | None, at: str, after: str | None, limit: int | None, as_json: bool
) -> None:  # fmt: skip
    """Show the rows of recorded tables as they were.

    They come in the order of the key; on PostgreSQL that of its text, in which 10 is before 9. With --json each is
    printed as soon as it is read, however many there are.
    """
    if table is None and (after is not None or limit is not None):
        raise click.UsageError("--after and --limit are of one table; say which with --table")
    beyond = None if after is None else _key(after)
    with _history(env).streamed(table, at, after=beyond, limit=limit) as streamed:
        is_any = False
        for name, rows in streamed:
            is_any = True
            if as_json:
                for row in rows:
                    print_json({"table": name, "row": _as_json(row)})
            else:
                _print_state(name, list(rows))
    if not is_any and not streamed.basis.unrecorded:
        _note("no table is recorded yet; `actionbus history install TABLE …` begins")
    _tell(streamed.basis)


def _print_state(name: str, rows: Sequence[Columns]) -> None:
    say((name, "bold"), f": {len(rows)} rows")
    if rows:
        print_table(list(rows[0]), [[_cell(each) for each in row.values()] for row in rows])


@history.command()
@click.argument("table")
@_key_argument
@_at_option
@json_option
@pass_environment
def rows(env: Environment, table: str, key: str, at: str, as_json: bool) -> None:
    """Show all that became of one row, oldest first."""
    answer = _history(env).rows(table, _key(key), at)
    _print_changes(answer.changes, as_json)
    if not answer.changes:
        raise _no_row(table, key, answer.basis)
    _tell(answer.basis)


@history.command()
@click.argument("table")
@_key_argument
@click.argument("column", required=False)
@_at_option
@json_option
@pass_environment
def blame(env: Environment, table: str, key: str, column: str | None, at: str, as_json: bool) -> None:
    """Show who gave each column of a row the value that it has."""
    answer = _history(env).blame(table, _key(key), column, at)
    if not answer.columns:
        raise _no_row(table, key, answer.basis)
    told = [(each.column, each.value, each.change) for each in answer.columns]
    if as_json:
        for name, value, change in told:
            print_json({"column": name, "value": shown(value), **change.who.shown()})
    else:
        lines = [[name, _cell(value), change.operation, *_who_cells(change.who)] for name, value, change in told]
        print_table(["column", "value", "by", *_WHO], lines, whole=("column", "position"))
    _tell(answer.basis)


@history.command()
@click.argument("a", metavar="POINT")
@click.argument("b", metavar="POINT", required=False)
@click.option("--table", metavar="TABLE", help="Only this one; all by default.")
@json_option
@pass_environment
def diff(env: Environment, a: str, b: str | None, table: str | None, as_json: bool) -> None:
    """Show the rows that differ between two points in history, the second being the end by default."""
    answer = _history(env).diff(a, b, table)
    for each in answer.rows:
        if as_json:
            print_json(
                {"table": each.table, "key": _as_json(each.key), "before": _as_json(each.before),
                 "after": _as_json(each.after)}
            )  # fmt: skip
        else:
            _say_change(each.table, each.key, each.before, each.after)
    _tell(answer.basis)


@history.command()
@click.argument("which", metavar="ACTION_ID|POSITION")
@json_option
@pass_environment
def changes(env: Environment, which: str, as_json: bool) -> None:
    """Show what one action, or one bypass, did to rows."""
    told = _history(env)
    answer = told.changes(position_or_id(which))
    _print_changes(answer.changes, as_json)
    _tell(answer.basis)


@history.command()
@click.argument("query", metavar="[SQL|TABLE]")
@click.argument("key", metavar="[KEY]", required=False)
@click.argument("value", metavar="[COLUMN=VALUE]", required=False)
@click.option("--good", default="start", show_default=True, metavar="POINT", help="Where it does not hold yet.")
@click.option("--bad", default="end", show_default=True, metavar="POINT", help="Where it holds.")
@json_option
@pass_environment
def bisect(
    env: Environment, query: str, key: str | None, value: str | None, good: str, bad: str, as_json: bool
) -> None:
    """Find the first position at which a query holds, or at which a row's column had a value.

    \b
    actionbus history bisect "SELECT EXISTS (SELECT 1 FROM items WHERE price < 0)"
    actionbus history bisect items 7 price=50

    The query is the database's own SQL, and true where its first value is. It sees copies of recorded tables, by their
    names without schema, as they were; unknown columns are NULL there.
    """
    told = _history(env)
    if key is None:
        answer = told.bisect(query, good=good, bad=bad)
    else:
        column, equals, wanted = (value or "").partition("=")
        if not equals:
            raise click.UsageError("say which value: actionbus history bisect TABLE KEY COLUMN=VALUE")
        answer = told.bisect_row(query, _key(key), column, wanted, bad)
    if answer.source is None:
        raise fail(f"not found up to position {answer.basis.position}: {answer.note}", FAILED)
    who = Who(answer.source, answer.source.at)
    if as_json:
        print_json(who.shown())
    else:
        say(f"position {answer.source.position}: ", " ".join(each for each in _who_cells(who)[1:] if each))
    if answer.note:
        say(("note:", "yellow"), f" {answer.note}", stderr=True)
    _tell(answer.basis)


def _print_changes(changes: Sequence[Change], as_json: bool) -> None:
    for each in changes:
        if as_json:
            print_json(
                {"table": each.table, "key": _as_json(each.key), "operation": each.operation,
                 "before": _as_json(each.before), "after": _as_json(each.after), **each.who.shown()}
            )  # fmt: skip
            continue
        say((" ".join(cell for cell in _who_cells(each.who) if cell), "dim"), " ", (each.operation, "bold"))
        _say_change(each.table, each.key, each.before, each.after)


def _say_change(table: str, key: Columns, before: Columns | None, after: Columns | None) -> None:
    whole = after or before or {}
    named = ", ".join(_cell(each) for each in key.values())
    sign = "+" if before is None else "-" if after is None else "~"
    say((f"  {sign} {table} {named}", "bold"))
    for name in whole:
        old, new = (before or {}).get(name), (after or {}).get(name)
        if before is not None and after is not None:
            if repr(old) != repr(new):
                say(f"      {name}: {_cell(old)} → {_cell(new)}")
        elif name not in key:
            say(f"      {name}: {_cell(whole[name])}")


_WHO: Final = ("position", "at", "action", "actor", "action_id")


def _who_cells(who: Who) -> list[str]:
    told = who.shown()
    position = "-" if told["position"] is None else str(told["position"])
    if told["bypass"] is None:
        return [position, moment_text(told["at"]), told["action"], told["actor"] or "-", str(told["action_id"])]
    named = ", ".join(f"{name}={value}" for name, value in told["bypass"].items() if value not in (None, "", False))
    return [position, moment_text(told["at"]), "bypass", named, str(told["action_id"] or "")]


def _as_json(row: Columns | None) -> dict[str, Any] | None:
    return None if row is None else {name: shown(value) for name, value in row.items()}


def _cell(value: Any) -> str:
    """A value for a person; what is missing is told apart: NULL from the text, unknown from NULL."""
    if value is UNKNOWN:
        return "(unknown)"
    if isinstance(value, Erased):
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


def _tell(basis: Basis) -> None:
    """What the answer rests on, where that is not the whole truth: on standard error, beside the answer."""
    for table in basis.tables:
        if table.withheld:
            _note(f"{table.table}: never recorded: {', '.join(table.withheld)}")
        for gap in table.gaps:
            key = ", ".join(_cell(each) for each in gap.key.values())
            where = f" at position {gap.position}" if gap.position else ""
            _note(f"a gap in {table.table}{' ' + key if key else ''}{where}: {gap.why}; a new baseline ends it")
        if table.problems:
            since = (
                f", unrecorded since position {table.unrecorded_since}" if table.unrecorded_since is not None else ""
            )
            _note(
                f"{table.table} is not whole{since}: {'; '.join(table.problems)}; `actionbus history install` mends it"
            )
    if basis.unrecorded:
        _note(f"not recorded yet at position {basis.position}: {', '.join(basis.unrecorded)}")
    if basis.waiting:
        _note(f"{basis.waiting} changes past the gateway are not at a position yet; the next action gives them one")


def _note(text: str) -> None:
    say(("note:", "yellow"), f" {text}", stderr=True)
