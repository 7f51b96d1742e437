"""What all commands share: the options that name an application and a database, output, errors as exit codes."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from actionbus.adapters.plain import joined, plain, plain_lines
from actionbus.adapters.wiring import bus_for, load_application, queue_for, store_for
from actionbus.core import ActionBusError, Application, Bus, ConfigurationError, JournalUnavailable
from actionbus.core.storage.sqlite_url import file_of
from actionbus.core.values.payload import shown_text
from actionbus.core.values.points import position_of
from actionbus.projections import Projections
from actionbus.projections.store import Store

SUCCEEDED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REJECTED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130
EXIT_CODES: Final = {
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "rejected": REJECTED,
    "denied": DENIED,
    "interrupted": FAILED,
}

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NARROWEST: Final = 4


@dataclass
class Environment:
    """What the options before the command say; commands get it with `@pass_environment`."""

    app_path: str
    database: str
    schema: str | None
    elasticsearch: str | None = None
    broker: str | None = None
    log_format: str = "text"
    app_is_default: bool = False
    """Whether nobody named an application."""

    @cached_property
    def application(self) -> Application:
        """The application of --app."""
        try:
            return load_application(self.app_path)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--app") from None

    @cached_property
    def bus(self) -> Bus:
        """The bus, bound to the database of --database, which must be there."""
        application = self.application
        refuse_missing(self.database)
        try:
            queue_for(self.broker)
        except (ImportError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--broker") from None
        try:
            bus = bus_for(application, self.database, schema=self.schema, broker=self.broker)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--schema" if self.schema else "--database") from None
        self.tell_default()
        click.get_current_context().find_root().call_on_close(bus.close)
        return bus

    def tell_default(self) -> None:
        """Say on standard error whose actions these are, if nobody named an application: it may have been forgotten."""
        if self.app_is_default:
            self.app_is_default = False
            say("the application is the bundled reference; name yours with --app or ACTIONBUS_APP", stderr=True)

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
        """What operators do with projections, for which there must be a journal."""
        self.bus.journal.require()
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
    """Make the folder of a SQLite file, so that the default database can be made in a fresh checkout."""
    if path := _sqlite_file(database):
        path.parent.mkdir(parents=True, exist_ok=True)


def refuse_missing(database: str) -> None:
    """SQLite would make an empty file of a mistyped name."""
    path = _sqlite_file(database)
    if path and not path.exists():
        raise fail(f"there is no database {path}; `actionbus db upgrade` makes one, or name another: --database", USAGE)


def _sqlite_file(database: str) -> Path | None:
    try:
        url = make_url(database)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        return None
    file = file_of(url) if url.drivername.startswith("sqlite") else None
    return Path(file) if file else None


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Rich would exit with 1; that `head` has read enough is no failure."""
        raise _read_enough()


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that writes no colour codes into a pipe, and takes nothing for markup."""
    if width is None:
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    wrap = not sys.stdout.isatty()
    return _Terminal(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=wrap)


Part = str | tuple[str, str]
"""Text, or text and its style."""


def line(*parts: Part) -> Text:
    """One line made of parts, whatever is in them."""
    made = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(plain(text), style=style)
    return made


def say(*parts: Part, stderr: bool = False) -> None:
    """Print one line for a person."""
    console(stderr=stderr).print(line(*parts))


def say_short(made: Text) -> None:
    """Print one line, cut off where the terminal ends."""
    console().print(made, overflow="ellipsis", no_wrap=True, crop=True)


def position_or_id(which: str) -> int | UUID:
    """What names one record or one action at the command line."""
    if (position := position_of(which)) is not None:
        return position
    try:
        return UUID(which)
    except ValueError:
        raise click.BadParameter(f"{which!r} is neither a position nor an action's id", param_hint="WHICH") from None


def print_json(value: Any) -> None:
    """One document on one line, in printable ASCII."""
    click.echo(shown_text(value).replace("\x7f", "\\u007f"))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Collection[str] = ()) -> None:
    """A table that fits the terminal; plain columns in a pipe.

    The columns named by `whole` are never cut: where the terminal is too narrow for them, its lines wrap.
    """
    cells = [[plain(each) for each in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    least = 0
    for number, name in enumerate(columns):
        width = max([cell_len(name), *(cell_len(row[number]) for row in cells)]) if name in whole else None
        table.add_column(Text(plain(name)), width=width)
        least += (width or _NARROWEST) + 1
    for row in cells:
        table.add_row(*(Text(each, no_wrap=True, overflow="ellipsis") for each in row))
    console(width=max(console().width, least)).print(table, crop=False)


def fail(message: str, code: int) -> SystemExit:
    """Print an error for a person, on one line; raise what is returned."""
    say(("error:", "bold red"), f" {joined(message)}", stderr=True)
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
        raise _read_enough() from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise fail(f"{where}{error.strerror or error}", FAILED) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class PlainGroup(click.Group):
    """A group whose messages about wrong usage hold nothing that steers a terminal."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As click does."""
        with _plain_messages():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with _plain_messages():
            return super().invoke(ctx)


@contextmanager
def _plain_messages() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _read_enough() from None
    except (KeyboardInterrupt, click.Abort):
        raise fail("interrupted", INTERRUPTED) from None
    except click.ClickException as error:
        told = error.format_message()
        if (clean := plain_lines(told)) == told:
            raise
        if isinstance(error, click.UsageError):
            raise click.UsageError(clean, error.ctx) from None
        raise click.ClickException(clean) from None


def _read_enough() -> SystemExit:
    """For when whoever reads our output has gone."""
    print_no_more()
    return SystemExit(SUCCEEDED)


def print_no_more() -> None:
    """Throw away what is printed from now on, so that the interpreter's last flush is quiet."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the interpreter closes it


def open_streams() -> None:
    """Where a shell closed them (`>&-`), Python has no streams, and the next file that is opened gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - the interpreter closes it


class FiniteRange(click.FloatRange):
    """A range of numbers that NaN, which is neither below nor above any, is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class MomentType(click.ParamType[datetime]):
    """A point in time: ISO 8601, or how long ago, such as 15m, 2h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if ago := _AGO.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            read = datetime.fromisoformat(value)
            return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
        except OverflowError:
            self.fail(f"{value!r} is before the year 1 or after the year 9999", param, ctx)
        except ValueError:
            self.fail(f"{value!r} is neither an ISO 8601 time nor an age such as 15m, 2h or 7d", param, ctx)


class AgeType(click.ParamType[timedelta]):
    """A length of time, such as 90s, 15m, 2h, 7d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not (age := _AGO.fullmatch(value)):
            self.fail(f"{value!r} is not an age such as 90s, 15m, 2h or 7d", param, ctx)
        try:
            return timedelta(**{_UNITS[age[2]]: int(age[1])})
        except (OverflowError, ValueError):  # ValueError: more digits than Python reads
            self.fail(f"{value!r} is longer than 2.7 million years", param, ctx)
