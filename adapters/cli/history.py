"""`actionbus history`: what was, told from recorded row images. No code of an application is run, nor one needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    refuse_missing,
    say,
)
from actionbus.adapters.cli.documents import documents
from actionbus.adapters.cli.erase import declared_by, erase, personal_option
from actionbus.adapters.cli.told import (
    WHO,
    cell_text,
    note,
    print_changes,
    row_json,
    say_change,
    tell,
    time_text,
    who_cells,
)
from actionbus.adapters.cli.walking import Walking
from actionbus.core import History
from actionbus.core.history.answers import Basis
from actionbus.core.history.declared import Kept, declare, read_declared
from actionbus.core.history.decoding import shown
from actionbus.core.history.install import install as install_triggers
from actionbus.core.history.install import remove as remove_triggers
from actionbus.core.history.install import status as status_of
from actionbus.core.history.shapes import TableStatus, TableWanted
from actionbus.core.history.wanted import as_modelled
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.values.change import Who

_STATUS: Final = ("table", "since", "images", "bytes", "withheld", "personal", "keep", "state")
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


history.add_command(documents)
history.add_command(erase)


def _backend(env: Environment) -> Backend:
    refuse_missing(env.database)
    try:
        backend = backend_for(make_engine(env.database), env.schema, own_engine=True)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--schema") from None
    click.get_current_context().find_root().call_on_close(backend.renew_pool)
    return backend


def _history(env: Environment) -> History:
    return History(_backend(env))


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
                    print_json({"table": name, "row": row_json(row)})
            else:
                _print_state(name, list(rows))
    if not is_any and not streamed.basis.unrecorded:
        note("no table is recorded yet; `actionbus history install TABLE …` begins")
    tell(streamed.basis)


def _print_state(name: str, rows: Sequence[dict[str, Any]]) -> None:
    say((name, "bold"), f": {len(rows)} rows")
    if rows:
        print_table(list(rows[0]), [[cell_text(each) for each in row.values()] for row in rows])


@history.command()
@click.argument("table")
@_key_argument
@_at_option
@json_option
@pass_environment
def rows(env: Environment, table: str, key: str, at: str, as_json: bool) -> None:
    """Show all that became of one row, oldest first."""
    answer = _history(env).rows(table, _key(key), at)
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
    answer = _history(env).blame(table, _key(key), column, at)
    if not answer.columns:
        raise _no_row(table, key, answer.basis)
    told = [(each.column, each.value, each.change) for each in answer.columns]
    if as_json:
        for name, value, change in told:
            print_json({"column": name, "value": shown(value), **change.who.shown()})
    else:
        lines = [[name, cell_text(value), change.operation, *who_cells(change.who)] for name, value, change in told]
        print_table(["column", "value", "by", *WHO], lines, whole=("column", "position", "action"))
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
    for each in answer.rows:
        if as_json:
            print_json(
                {"table": each.table, "key": row_json(each.key), "before": row_json(each.before),
                 "after": row_json(each.after)}
            )  # fmt: skip
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
        answer = told.bisect_row(query, _key(key), column, wanted, bad)
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


@history.command()
@click.argument("tables", nargs=-1)
@click.option("--models", is_flag=True, help="Also the application's tables that have no history.")
@click.option("--check", is_flag=True, help="Exit code 1 if a table is not whole.")
@json_option
@pass_environment
def status(env: Environment, tables: tuple[str, ...], models: bool, check: bool, as_json: bool) -> None:
    """Show since when each table is recorded, what is withheld or personal, how long it is kept, what is wrong."""
    backend = _backend(env)
    with backend.engine.connect() as connection:
        kept = read_declared(connection, backend.prefix)
        found = status_of(backend, connection, [_wanted(each) for each in tables]) if tables else None
    if found is None:
        found = (env.bus.history if models else History(backend)).status()
    for each in found if as_json else ():
        print_json(_status_json(each, kept.get(each.table_name, Kept({}, None))))
    if not as_json:
        lines = [
            [each.table_name, time_text(each.since), str(each.images), str(each.bytes), ", ".join(each.withheld),
             ", ".join(declared.personal), declared.keep or "", "; ".join(each.problems) or "whole"]
            for each in found
            for declared in [kept.get(each.table_name, Kept({}, None))]
        ]  # fmt: skip
        print_table(_STATUS, lines, whole=("table",))
    if check and not all(each.is_whole for each in found):
        raise SystemExit(FAILED)


@history.command()
@click.argument("tables", nargs=-1, required=True)
@click.option("--withhold", multiple=True, metavar="TABLE.COLUMN", help="A column that is never to be recorded.")
@click.option("--record", multiple=True, metavar="TABLE.COLUMN", help="A column that was withheld and is no longer.")
@personal_option
@pass_environment
def install(
    env: Environment, tables: tuple[str, ...], withhold: tuple[str, ...], record: tuple[str, ...],
    personal: tuple[str, ...],
) -> None:  # fmt: skip
    """Record all changes of these tables from now on, whoever makes them; one that holds rows begins with a copy.

    Columns that the application's models call sensitive are left out, if one is named (--app, ACTIONBUS_APP). What was
    withheld stays so, under a new name too, until it is named with --record.

    \b
    --personal customers.email=id       the column email holds data of whom the row's id names
    """
    backend = _install(env, tables, withhold, record, baseline=False)
    with backend.engine.begin() as connection:
        declare(backend, connection, [declared_by(each) for each in personal], is_whole=False)


@history.command()
@click.argument("tables", nargs=-1, required=True)
@pass_environment
def baseline(env: Environment, tables: tuple[str, ...]) -> None:
    """Copy these tables as they are, so that their history begins anew and is whole from here on."""
    _install(env, tables, (), (), baseline=True)


@history.command()
@click.argument("tables", nargs=-1, required=True)
@pass_environment
def stop(env: Environment, tables: tuple[str, ...]) -> None:
    """Record these tables no more. What was recorded stays."""
    backend = _backend(env)
    with backend.engine.begin() as connection:
        done = remove_triggers(backend, connection, [_wanted(each) for each in tables])
    say(f"no longer recorded: {', '.join(done)}" if done else "none of them was recorded; nothing to do")


def _install(
    env: Environment, tables: Sequence[str], withhold: Sequence[str], record: Sequence[str], *, baseline: bool
) -> Backend:
    backend = _backend(env)
    withheld, recorded = _columns(tables, withhold, "--withhold"), _columns(tables, record, "--record")
    wanted = [_wanted(each, withheld.get(each, ()), recorded.get(each, ())) for each in tables]
    models = [] if env.app_is_default or env.application.models is None else [env.application.models]
    with backend.engine.begin() as connection:
        wanted = [as_modelled(connection, each, models) for each in wanted]
        done = install_triggers(backend, connection, wanted, baseline=baseline)
    say(f"recorded from now on: {', '.join(done)}" if done else "all of them are recorded already; nothing to do")
    return backend


def _columns(tables: Sequence[str], named: Sequence[str], option: str) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for each in named:
        table, dot, column = each.rpartition(".")
        if not dot or table not in tables:
            raise click.BadParameter(f"{each!r} names no column of a table given", param_hint=option)
        columns.setdefault(table, []).append(column)
    return columns


def _wanted(name: str, withheld: Iterable[str] = (), recorded: Iterable[str] = ()) -> TableWanted:
    schema, _, table = name.rpartition(".")
    return TableWanted(table, schema or None, tuple(withheld), tuple(recorded))


def _status_json(status: TableStatus, declared: Kept) -> dict[str, Any]:
    told = {"table": status.table_name, "since": status.since, "whole": status.is_whole, "problems": status.problems}
    return told | {"withheld": status.withheld, "personal": declared.personal, "keep": declared.keep,
                   "columns": status.columns, "images": status.images, "bytes": status.bytes}  # fmt: skip
