"""The `actionbus` command: its options and its groups."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from actionbus.adapters.cli.common import Environment, PlainGroup, explained, open_streams
from actionbus.adapters.logs import log_to_stderr
from actionbus.adapters.wiring import DEFAULT_APPLICATION, DEFAULT_DATABASE

_COMMANDS: Final = {
    "run": "run", "actions": "actions", "log": "log", "show": "log", "runs": "runs", "journal": "journal", "db": "db",
    "replay": "replay", "projections": "projections", "search": "search", "serve": "serve",
    "token": "token", "worker": "worker", "elasticsearch": "elasticsearch", "completion": "completion",
    "history": "history", "demo": "demo",
}  # fmt: skip
"""Each command, and the module of this folder that has it."""


class Commands(PlainGroup):
    """Imports a command's module when that command is asked for: most need little of what the others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in alphabetical order."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, if there is one of that name."""
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = getattr(import_module(f"actionbus.adapters.cli.{_COMMANDS[cmd_name]}"), cmd_name)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
    named = context.get_parameter_source("app_path") is not click.core.ParameterSource.DEFAULT
    context.obj.app_is_default = not named and context.invoked_subcommand != "demo"
    if verbose or log_format == "json":
        log_to_stderr(log_format)


def main() -> None:
    """The entry point."""
    open_streams()
    with explained():
        group(prog_name="actionbus")


if __name__ == "__main__":
    main()
