"""What all commands share: the options that name an application and a database, and the types of others.

What takes an application is imported when a command asks for it: to read the journal takes none.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from actionbus.adapters.cli.printing import USAGE, fail, say
from actionbus.adapters.settings import BadSetting
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.storage.sqlite_url import file_of
from actionbus.core.values.payload import shown_text
from actionbus.core.values.points import position_of

if TYPE_CHECKING:
    from actionbus.core import Application, Bus
    from actionbus.core.declare.registry import Registry
    from actionbus.projections import Projections
    from actionbus.projections.store import Store

_AGO = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def is_operator() -> bool:
    """Whether who runs the command may do all: he has the database anyway.

    Not for a job that a caller of the application has begun over HTTP (`adapters.http.job_api`): of him the checkpoint
    is asked.
    """
    return os.environ.get("ACTIONBUS_AS_CALLER") != "1"


@dataclass
class Environment:
    """What the options before the command say; commands get it with `@pass_environment`."""

    app_path: str
    database: str
    schema: str | None
    elasticsearch: str | None = None
    broker: str | None = None
    log_format: str = "text"
    leave_calls_to_workers: bool = False
    app_is_default: bool = False
    """Whether nobody named an application."""

    @cached_property
    def application(self) -> Application:
        """The application that --app names. Raises UsageError if it cannot be had."""
        try:
            found: Application = _wiring().load_application(self.app_path)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--app") from None
        return found

    @cached_property
    def registry(self) -> Registry:
        """The application's actions."""
        found: Registry = import_module("actionbus.core.declare.registry").Registry(self.application)
        return found

    @cached_property
    def backend(self) -> Backend:
        """The database of --database, which must be there, without any application."""
        refuse_missing(self.database)
        try:
            backend = backend_for(make_engine(self.database), self.schema, own_engine=True)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--schema" if self.schema else "--database") from None
        click.get_current_context().find_root().call_on_close(backend.renew_pool)
        return backend

    @cached_property
    def bus(self) -> Bus:
        """The bus, bound to the database of --database, which must be there."""
        application = self.application
        refuse_missing(self.database)
        try:
            _wiring().broker_for(self.broker)
        except BadSetting as error:
            raise click.UsageError(str(error)) from None
        except (ImportError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--broker") from None
        try:
            bus: Bus = _wiring().bus_for(
                application,
                self.database,
                schema=self.schema,
                broker=self.broker,
                leave_calls_to_workers=self.leave_calls_to_workers,
            )
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
            store: Store = _wiring().store_for(self.bus.engine, schema=self.schema, where=self.elasticsearch)
        except (ImportError, ValueError) as error:
            raise click.BadParameter(str(error), param_hint="--elasticsearch") from None
        click.get_current_context().find_root().call_on_close(store.close)
        return store

    @cached_property
    def operations(self) -> Projections:
        """What operators do with projections, for which there must be a journal."""
        self.bus.journal.require()
        found: Projections = import_module("actionbus.projections").Projections(self.bus, self.store)
        return found


def _wiring() -> Any:
    return import_module("actionbus.adapters.wiring")


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


def position_or_id(which: str) -> int | UUID:
    """What names one record or one action at the command line."""
    if (position := position_of(which)) is not None:
        return position
    try:
        return UUID(which)
    except ValueError:
        raise click.BadParameter(f"{which!r} is neither a position nor an action's id", param_hint="WHICH") from None


def json_line(value: Any) -> str:
    """One document on one line, in printable ASCII."""
    return shown_text(value).replace("\x7f", "\\u007f")


def print_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json_line(value))


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
