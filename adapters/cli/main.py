"""The `actionbus` command: its options and its groups."""

from __future__ import annotations

import click

from adapters.cli.actions import actions
from adapters.cli.common import Environment, explained
from adapters.cli.completion import completion
from adapters.cli.db import db
from adapters.cli.demo import demo
from adapters.cli.elasticsearch import elasticsearch
from adapters.cli.journal import journal
from adapters.cli.log import log, show
from adapters.cli.projections import projections
from adapters.cli.replay import replay
from adapters.cli.run import run
from adapters.cli.runs import runs
from adapters.cli.search import search
from adapters.cli.serve import serve
from adapters.cli.snapshot import snapshot
from adapters.cli.token import token
from adapters.cli.worker import worker
from adapters.logs import log_to_stderr
from adapters.wiring import DEFAULT_APPLICATION, DEFAULT_DATABASE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--app",
    "app_path",
    envvar="ACTIONBUS_APP",
    default=DEFAULT_APPLICATION,
    show_default=True,
    show_envvar=True,
    metavar="MODULE:ATTRIBUTE",
    help="The application.",
)
@click.option(
    "--database",
    envvar="ACTIONBUS_DATABASE_URL",
    default=DEFAULT_DATABASE,
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="Its database: postgresql://… or sqlite:///file.",
)
@click.option("--schema", envvar="ACTIONBUS_SCHEMA", metavar="NAME", help="PostgreSQL schema of the journal's table.")
@click.option(
    "--elasticsearch",
    "elasticsearch_at",
    envvar="ACTIONBUS_ELASTICSEARCH_URL",
    show_envvar=True,
    metavar="URL",
    help="Where documents are kept: a URL, or 'embedded' for the database itself. By default the local server "
    "(`actionbus elasticsearch start`) if it runs, else embedded.",
)
@click.option(
    "--broker",
    envvar="ACTIONBUS_BROKER_URL",
    show_envvar=True,
    metavar="URL",
    help="Where queued actions go, such as redis://localhost.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the log on standard error.")
@click.option(
    "--log-format",
    envvar="ACTIONBUS_LOG_FORMAT",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    show_envvar=True,
    help="How the log looks: for people, or one JSON object per line.",
)
@click.version_option(package_name="actionbus")
@click.pass_context
def group(
    context: click.Context,
    app_path: str,
    database: str,
    schema: str | None,
    elasticsearch_at: str | None,
    broker: str | None,
    verbose: bool,
    log_format: str,
) -> None:
    """Run actions and read the journal of what was asked and what came of it.

    \b
    Start with:  actionbus db upgrade --models
                 actionbus actions
                 actionbus run create_kit --actor ana --name "My kit"
                 actionbus log
                 actionbus projections run --once
                 actionbus search WORDS
    """
    context.obj = Environment(app_path, database, schema, elasticsearch_at, broker, log_format)
    if verbose or log_format == "json":
        log_to_stderr(log_format)


for command in (
    run, actions, log, show, runs, journal, db, replay, snapshot, projections, search, serve, token, worker,
    elasticsearch, completion, demo,
):  # fmt: skip
    group.add_command(command)


def main() -> None:
    """The entry point."""
    with explained():
        group(prog_name="actionbus")


if __name__ == "__main__":
    main()
