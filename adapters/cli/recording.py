"""`actionbus history status`, `install`, `baseline` and `stop`: which tables are recorded, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.erase import declared_by, personal_option
from actionbus.adapters.cli.history_output import time_text
from actionbus.adapters.cli.printing import FAILED, print_table, say
from actionbus.core import History, Journal
from actionbus.core.history.declared import DeclaredTable, declare, read_declared
from actionbus.core.history.install import install as install_triggers
from actionbus.core.history.install import remove as remove_triggers
from actionbus.core.history.install import status as status_of
from actionbus.core.history.shapes import TableStatus
from actionbus.core.history.wanted import as_modelled, by_name
from actionbus.core.storage.backend import Backend

_STATUS: Final = ("table", "since", "images", "bytes", "withheld", "personal", "keep", "state")


def backend_of(env: Environment) -> Backend:
    """The database that is meant, in which there must be a journal; no application is needed."""
    Journal(env.backend).require()
    return env.backend


@click.command()
@click.argument("tables", nargs=-1)
@click.option("--models", is_flag=True, help="Also the application's tables that have no history.")
@click.option("--check", is_flag=True, help="Exit code 1 if a table is not whole.")
@json_option
@pass_environment
def status(env: Environment, tables: tuple[str, ...], models: bool, check: bool, as_json: bool) -> None:
    """Show since when each table is recorded, what is withheld or personal, how long it is kept, what is wrong."""
    backend = backend_of(env)
    with backend.engine.connect() as connection:
        kept = read_declared(connection, backend.prefix)
        found = status_of(backend, connection, [by_name(connection, each) for each in tables]) if tables else None
    if found is None:
        found = (env.bus.history if models else History(backend)).status()
    for each in found if as_json else ():
        print_json(_status_json(each, kept.get(each.table_name, DeclaredTable({}, None))))
    if not as_json:
        lines = [
            [
                each.table_name,
                time_text(each.since),
                str(each.images),
                str(each.bytes),
                ", ".join(each.withheld),
                ", ".join(declared.personal),
                declared.keep or "",
                "; ".join(each.problems) or "whole",
            ]
            for each in found
            for declared in [kept.get(each.table_name, DeclaredTable({}, None))]
        ]
        print_table(_STATUS, lines, whole=("table",))
    if check and not all(each.is_whole for each in found):
        raise SystemExit(FAILED)


@click.command()
@click.argument("tables", nargs=-1, required=True)
@click.option("--withhold", multiple=True, metavar="TABLE.COLUMN", help="A column that is never to be recorded.")
@click.option("--record", multiple=True, metavar="TABLE.COLUMN", help="A column that was withheld and is no longer.")
@personal_option
@pass_environment
def install(
    env: Environment,
    tables: tuple[str, ...],
    withhold: tuple[str, ...],
    record: tuple[str, ...],
    personal: tuple[str, ...],
) -> None:
    """Record all changes of these tables from now on, whoever makes them; one that holds rows begins with a copy.

    \b
    --personal customers.email=id       the column email holds data of whom the row's id names

    Columns that the application's models call sensitive are left out, if one is named (--app, ACTIONBUS_APP). What was
    withheld stays so, under a new name too, until it is named with --record.
    """
    backend = _install(env, tables, withhold, record, baseline=False)
    with backend.engine.begin() as connection:
        declare(backend, connection, [declared_by(each) for each in personal], is_whole=False)


@click.command()
@click.argument("tables", nargs=-1, required=True)
@pass_environment
def baseline(env: Environment, tables: tuple[str, ...]) -> None:
    """Copy these tables as they are, so that their history begins anew and is whole from here on."""
    _install(env, tables, (), (), baseline=True)


@click.command()
@click.argument("tables", nargs=-1, required=True)
@pass_environment
def stop(env: Environment, tables: tuple[str, ...]) -> None:
    """Record these tables no more. What was recorded stays."""
    backend = backend_of(env)
    with backend.engine.begin() as connection:
        done = remove_triggers(backend, connection, [by_name(connection, each) for each in tables])
    say(f"no longer recorded: {', '.join(done)}" if done else "none of them was recorded; nothing to do")


def _install(
    env: Environment, tables: Sequence[str], withhold: Sequence[str], record: Sequence[str], *, baseline: bool
) -> Backend:
    backend = backend_of(env)
    withheld, recorded = _columns(tables, withhold, "--withhold"), _columns(tables, record, "--record")
    models = [] if env.app_is_default or env.application.models is None else [env.application.models]
    with backend.engine.begin() as connection:
        wanted = [
            as_modelled(
                connection,
                by_name(connection, each)._replace(withheld=withheld.get(each, ()), recorded=recorded.get(each, ())),
                models,
            )
            for each in tables
        ]
        done = install_triggers(backend, connection, wanted, baseline=baseline)
    say(f"recorded from now on: {', '.join(done)}" if done else "all of them are recorded already; nothing to do")
    return backend


def _columns(tables: Sequence[str], named: Sequence[str], option: str) -> dict[str, tuple[str, ...]]:
    columns: dict[str, tuple[str, ...]] = {}
    for each in named:
        table = max((table for table in tables if each.startswith(f"{table}.")), key=len, default=None)
        if table is None:
            raise click.BadParameter(f"{each!r} names no column of a table given", param_hint=option)
        columns[table] = (*columns.get(table, ()), each.removeprefix(f"{table}."))
    return columns


def _status_json(status: TableStatus, declared: DeclaredTable) -> dict[str, Any]:
    told = {"table": status.table_name, "since": status.since, "whole": status.is_whole, "problems": status.problems}
    return told | {
        "withheld": status.withheld,
        "personal": declared.personal,
        "keep": declared.keep,
        "columns": status.columns,
        "images": status.images,
        "bytes": status.bytes,
    }


COMMANDS: Final = (status, install, baseline, stop)
