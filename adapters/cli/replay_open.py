"""`actionbus replay open`: a copy of the tables as they were, in a database that psql or a notebook can use."""

from __future__ import annotations

import shlex
import sys
import threading

import click
from sqlalchemy.engine import URL

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.history_output import note
from actionbus.adapters.cli.printing import say
from actionbus.adapters.sandbox_databases import throwaway
from actionbus.replay import Replayer


@click.command("open")
@click.option("--at", default="end", show_default=True, metavar="POINT", help="As the tables were at this point.")
@click.option("--keep", is_flag=True, help="Leave it there and end, instead of waiting for Ctrl-C and removing it.")
@click.option(
    "--sandbox",
    metavar="URL",
    envvar="ACTIONBUS_SANDBOX_URL",
    help="Where: a server of the journal's kind; by default one at hand (docs/replay.md).",
)
@json_option
@pass_environment
def open_copy(env: Environment, at: str, keep: bool, sandbox: str | None, as_json: bool) -> None:
    """Open a copy of the tables as they were at a point in history, to look around in.

    \b
    It is a database of its own, made from the application's models and what was recorded; what is done in it
    stays in it. Columns that are withheld from history, and values that were erased, have stand-ins there.
    """
    bus = env.bus
    bus.journal.require()
    with throwaway(bus, sandbox, keep=keep) as url:
        with Replayer(bus.journal, bus.application, url) as replayer:
            position = replayer.history.position(at)
            replayer.load(position)
            replayer.sandbox.commit()
        if keep:
            _show(url, position, as_json=as_json)
            note(f"it stays until you remove it: {_removing(url)}")
            return
        try:  # whoever reads the first line may be done with it before the last one is printed
            _show(url, position, as_json=as_json)
            note("it is there until Ctrl-C")
            threading.Event().wait()
        except KeyboardInterrupt:
            note("gone")


def _show(url: URL, position: int, *, as_json: bool) -> None:
    told = url.render_as_string(hide_password=False)
    if as_json:
        print_json({"url": told, "position": position})
    else:
        say(told)
        say(f"  {_shell(url)}")
        code = f"import sqlalchemy as s; print(s.inspect(s.create_engine({told!r})).get_table_names())"
        say(f"  python -c {shlex.quote(code)}")
    sys.stdout.flush()


def _shell(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"sqlite3 {shlex.quote(str(url.database))}"
    return f"psql {shlex.quote(url.set(drivername='postgresql').render_as_string(hide_password=False))}"


def _removing(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"rm {shlex.quote(str(url.database))}"
    server = url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    statement = f'DROP DATABASE "{url.database}"'
    return f"psql {shlex.quote(server)} -c {shlex.quote(statement)}"
