"""`actionbus history`: what was, told from recorded row images. No code of an application is run, nor one needed."""

from __future__ import annotations

from typing import Final

import click

from actionbus.adapters.cli.archive import COMMANDS as ARCHIVES
from actionbus.adapters.cli.common import Environment, json_option, pass_environment, position_or_id, print_json
from actionbus.adapters.cli.documents import documents
from actionbus.adapters.cli.erase import erase
from actionbus.adapters.cli.history_output import (
    WHO,
    cell_text,
    note,
    print_changes,
    print_rows,
    row_json,
    say_change,
    tell,
    who_cells,
)
from actionbus.adapters.cli.paging import page
from actionbus.adapters.cli.printing import FAILED, fail, print_table, say
from actionbus.adapters.cli.recording import COMMANDS, backend_of
from actionbus.adapters.cli.walking import Walking
from actionbus.core import History
from actionbus.core.history.answers import Basis
from actionbus.core.history.decoding import shown
from actionbus.core.values.change import Who

_at_option = click.option(
    "--at", default="end", show_default=True, metavar="POINT", help="POSITION, ISO 8601 TIME, ACTION_ID, start or end."
)
_BLAME: Final = ("column", "value", "position", "action", "actor", "at", "action_id", "by")
_key_argument = click.argument("key", metavar="KEY")


@click.group()
def history() -> None:
    """Tell what rows were and who changed them, from what was recorded.

    \b
    Nothing is run: the answers are the same with any code, and with none; --database is enough.
    A POINT in history is a position, a time, an action's id, `start` or `end`.
    A KEY of several columns is given with commas between them, or as JSON: '["a,b", 5]'.
    A bypass is a transaction that wrote past the gateway.
    """


for command in (documents, erase, *ARCHIVES, *COMMANDS):
    history.add_command(command)


def _history(env: Environment) -> History:
    return History(backend_of(env))


def _no_row(table: str, key: str, basis: Basis) -> SystemExit:
    return fail(f"no row {key} of {table} is on record up to position {basis.position}", FAILED)


@history.command()
@click.option("--table", metavar="TABLE", help="Only this one; all by default.")
@_at_option
@click.option("--after", metavar="KEY", help="With --table: only rows beyond this key, which ended the page before.")
@click.option("-n", "--limit", type=click.IntRange(1), default=None, help="With --table: at most so many rows.")
@json_option
@pass_environment
def state(env: Environment, table: str | None, at: str, after: str | None, limit: int | None, as_json: bool) -> None:
    """Show the rows of recorded tables as they were.

    They come in the order of the key; on PostgreSQL that of its text, in which 10 is before 9. With --json each is
    printed as soon as it is read, however many there are.
    """
    if table is None and (after is not None or limit is not None):
        raise click.UsageError("--after and --limit page through one table; name it with --table")
    page(unless=as_json)
    with _history(env).streamed(table, at, after=after, limit=limit) as streamed:
        is_any = False
        for name, rows in streamed:
            is_any = True
            if as_json:
                for row in rows:
                    print_json({"table": name, "row": row_json(row)})
            else:
                print_rows(name, list(rows))
    if not is_any and not streamed.basis.unrecorded:
        note("no table is recorded yet; `actionbus history install TABLE …` begins")
    tell(streamed.basis)


@history.command()
@click.argument("table")
@_key_argument
@_at_option
@json_option
@pass_environment
def rows(env: Environment, table: str, key: str, at: str, as_json: bool) -> None:
    """Show all that became of one row, oldest first."""
    answer = _history(env).rows(table, key, at)
    page(unless=as_json)
    print_changes(answer.changes, as_json)
    if not answer.changes:
        raise _no_row(table, key, answer.basis)
    tell(answer.basis)


@history.command()
@click.argument("table")
@_key_argument
@click.argument("column", required=False)
@_at_option
@json_option
@pass_environment
def blame(env: Environment, table: str, key: str, column: str | None, at: str, as_json: bool) -> None:
    """Show who gave each column of a row the value that it has."""
    answer = _history(env).blame(table, key, column, at)
    if not answer.columns:
        raise _no_row(table, key, answer.basis)
    told = [(each.column, each.value, each.change) for each in answer.columns]
    if as_json:
        for name, value, change in told:
            print_json({"column": name, "value": shown(value), **change.who.shown()})
    else:
        by_name = [
            {"column": name, "value": cell_text(value), "by": change.operation}
            | dict(zip(WHO, who_cells(change.who), strict=True))
            for name, value, change in told
        ]
        lines = [[each[name] for name in _BLAME] for each in by_name]
        print_table(_BLAME, lines, whole=("column", "position", "action"), first_to_go=("at", "action_id", "by"))
    tell(answer.basis)


@history.command()
@click.argument("a", metavar="POINT")
@click.argument("b", metavar="POINT", required=False)
@click.option("--table", metavar="TABLE", help="Only this one; all by default.")
@json_option
@pass_environment
def diff(env: Environment, a: str, b: str | None, table: str | None, as_json: bool) -> None:
    """Show the rows that differ between two points in history, the second being the end by default."""
    answer = _history(env).diff(a, b, table)
    page(unless=as_json)
    for each in answer.rows:
        if as_json:
            print_json(
                {
                    "table": each.table,
                    "key": row_json(each.key),
                    "before": row_json(each.before),
                    "after": row_json(each.after),
                }
            )
        else:
            say_change(each.table, each.key, each.before, each.after)
    tell(answer.basis)


@history.command()
@click.argument("which", metavar="ACTION_ID|POSITION")
@json_option
@pass_environment
def changes(env: Environment, which: str, as_json: bool) -> None:
    """Show what one action, or one bypass, did to rows."""
    told = _history(env)
    answer = told.changes(position_or_id(which))
    page(unless=as_json)
    print_changes(answer.changes, as_json)
    tell(answer.basis)


@history.command()
@click.option("--from", "low", default="start", show_default=True, metavar="POINT", help="Begin at this point.")
@click.option("--to", "high", default="end", show_default=True, metavar="POINT", help="End with this point.")
@pass_environment
def walk(env: Environment, low: str, high: str) -> None:
    """Walk through history action by action, forward and back: next, back, jump, diff, state."""
    Walking(_history(env), low, high).cmdloop()


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
        answer = told.bisect_row(query, key, column, wanted, bad)
    if answer.source is None:
        raise fail(f"not found up to position {answer.basis.position}: {answer.note}", FAILED)
    who = Who(answer.source, answer.source.at)
    if as_json:
        print_json(who.shown())
    else:
        say(f"position {answer.source.position}: ", " ".join(each for each in who_cells(who)[1:] if each))
    if answer.note:
        say(("note:", "yellow"), f" {answer.note}", stderr=True)
    tell(answer.basis)
