"""`actionbus db`: the journal's tables and their migrations."""

from __future__ import annotations

import click

from actionbus.adapters import database
from actionbus.adapters.cli.common import (
    Environment,
    json_option,
    pass_environment,
    prepare_folder,
    print_json,
    refuse_missing,
)
from actionbus.adapters.cli.printing import say
from actionbus.core import Application
from actionbus.core.storage.engines import make_engine


@click.group()
def db() -> None:
    """Create and migrate the journal's tables."""


@db.command()
@click.option(
    "--models",
    is_flag=True,
    help="Also create the application's own tables where they are not there, and record their rows.",
)
@pass_environment
def upgrade(env: Environment, models: bool) -> None:
    """Bring the journal's tables up to date.

    An application with migrations of its own runs those with its own Alembic; ours use a version table of their
    own, actionbus_version.
    """
    application = _checked(env) if models else None
    prepare_folder(env.database)
    engine = make_engine(env.database)
    before = database.current(engine, env.schema)
    database.upgrade(engine, env.schema)
    after = database.current(engine, env.schema)
    say(f"journal: {after}" + ("" if before != after else " (nothing to do)"))
    if application is None:
        return
    env.tell_default()
    if application.models is None:
        say("models:  the application declares none: Application(models=Base.metadata)")
        return
    env.bus.create()
    say(f"models:  {', '.join(sorted(application.models.tables))}")
    say(f"history: {_recorded(application)}")


def _checked(env: Environment) -> Application:
    """The application; what is wrong with it is told before anything is made."""
    list(env.registry)
    return env.application


def _recorded(application: Application) -> str:
    left_out = ", ".join(application.unrecorded)
    return f"all rows are recorded but those of {left_out}" if left_out else "all their rows are recorded"


@db.command()
@json_option
@pass_environment
def current(env: Environment, as_json: bool) -> None:
    """Show the revision that the database is at. Exit code 1 if there is a newer one."""
    refuse_missing(env.database)
    at, newest = database.current(make_engine(env.database), env.schema), database.head()
    if as_json:
        print_json({"current": at, "head": newest})
    else:
        advice = "(newest)" if at == newest else f"(newest is {newest}: {_advice(at)})"
        say(f"{at or 'no journal yet'} {advice}")
    raise SystemExit(0 if at == newest else 1)


def _advice(at: str | None) -> str:
    return database.unknown(at) or "run `actionbus db upgrade`"


@db.command()
@pass_environment
def sql(env: Environment) -> None:
    """Print the SQL that `db upgrade` runs on an empty database, for a DBA."""
    click.echo(database.upgrade_sql(make_engine(env.database).dialect.name, env.schema), nl=False)
