"""What all commands share: the options that name an application and a database, output, errors as exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from adapters.wiring import bus_for, load_application, store_for
from core import ActionBusError, Application, Bus, ConfigurationError, JournalUnavailable
from core.limits import Limits
from core.payload import dumps, primitive
from core.sqlite_url import file_of
from projections import Projections
from projections.store import Store

SUCCEEDED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REJECTED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
EXIT_CODES: Final = {
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "rejected": REJECTED,
    "denied": DENIED,
    "interrupted": FAILED,
}

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHOWING = Limits(depth=100, digits=4000)


@dataclass
class Environment:
    """What the options before the command say; commands get it with `@pass_environment`."""

    app_path: str
    database: str
    schema: str | None
    elasticsearch: str | None = None
    broker: str | None = None
    log_format: str = "text"

    @cached_property
    def application(self) -> Application:
        """The application of --app."""
        try:
            return load_application(self.app_path)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--app") from None

    @cached_property
    def bus(self) -> Bus:
        """The bus, bound to the database of --database."""
        prepare_folder(self.database)
        try:
            bus = bus_for(self.application, self.database, schema=self.schema, broker=self.broker)
        except (ImportError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--broker") from None
        click.get_current_context().find_root().call_on_close(bus.close)
        return bus

    @cached_property
    def store(self) -> Store:
        """Where documents are kept: what --elasticsearch says."""
        try:
            store = store_for(self.bus.engine, self.schema, self.elasticsearch)
        except (ImportError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--elasticsearch") from None
        click.get_current_context().find_root().call_on_close(store.close)
        return store

    @cached_property
    def operations(self) -> Projections:
        """What operators do with projections."""
        return Projections(self.bus, self.store)


def environment_of(context: click.Context) -> Environment:
    """The environment; made from the options on the line while a shell completes it, when no command is run."""
    if (found := context.find_object(Environment)) is None:
        given = context.find_root().params
        found = context.find_root().obj = Environment(given["app_path"], given["database"], given["schema"])
    return found


pass_environment = click.make_pass_decorator(Environment)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: a JSON document per line instead of text for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one document per line.")(command)


def prepare_folder(database: str) -> None:
    """Make the folder of a SQLite file, so that the default database works in a fresh checkout."""
    try:
        url = make_url(database)
    except ArgumentError:
        return
    if url.drivername.startswith("sqlite") and (file := file_of(url)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)


def console(*, stderr: bool = False) -> Console:
    """A console that writes no colour codes into a pipe."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any) -> None:
    """One document on one line."""
    click.echo(dumps(primitive(value, _SHOWING)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table that fits the terminal; plain columns in a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(safe(each) for each in row))
    console().print(table)


def safe(text: str) -> str:
    """Text without control characters or markup, since what is in a journal must not steer a terminal."""
    return "".join(each if each.isprintable() else "�" for each in text).replace("[", "\\[")


def fail(message: str, code: int) -> SystemExit:
    """Print an error for a person; raise what is returned."""
    console(stderr=True).print(f"[bold red]error:[/] {safe(message)}")
    return SystemExit(code)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what commands raise into a sentence and an exit code; no traceback reaches the terminal."""
    try:
        yield
    except (click.ClickException, click.Abort, SystemExit):
        raise
    except ConfigurationError as error:
        raise fail("; ".join(error.problems), USAGE) from None
    except JournalUnavailable as error:
        cause = f" ({first_line(error.__cause__)})" if error.__cause__ else ""
        raise fail(f"{error}{cause}", UNAVAILABLE) from None
    except ActionBusError as error:
        raise fail(str(error), FAILED) from None
    except SQLAlchemyError as error:
        raise fail(f"the database refused: {first_line(error)}", UNAVAILABLE) from None
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - so that the interpreter's last flush is quiet
        raise SystemExit(SUCCEEDED) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class MomentType(click.ParamType[datetime]):
    """A point in time: ISO 8601, or how long ago, such as 15m, 2h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if ago := _AGO.fullmatch(value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither an ISO 8601 time nor an age such as 15m, 2h or 7d", param, ctx)
        return read if read.tzinfo else read.replace(tzinfo=UTC)


class AgeType(click.ParamType[timedelta]):
    """A length of time, such as 90s, 15m, 2h, 7d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not (age := _AGO.fullmatch(value)):
            self.fail(f"{value!r} is not an age such as 90s, 15m, 2h or 7d", param, ctx)
        return timedelta(**{_UNITS[age[2]]: int(age[1])})
