"""The `actionbus` command: its options and its groups."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from actionbus.adapters.cli.printing import PlainGroup, open_streams, say
from actionbus.adapters.logs import log_to_stderr
from actionbus.adapters.settings import DEFAULT_APPLICATION, DEFAULT_DATABASE
from actionbus.adapters.unknown_settings import tell_unknown

_COMMANDS: Final = {
    "actions": ("actions", "List the actions, or describe the one called NAME."),
    "completion": ("completion", "Print a script that completes commands, names of actions and their options."),
    "db": ("db", "Create and migrate the journal's tables."),
    "demo": ("demo", "Import the whole Unicode emoji set as kits and assets, through the gateway, by several actors."),
    "elasticsearch": (
        "elasticsearch",
        "A local Elasticsearch, without Docker: fetched once, run on 127.0.0.1, its data under var/elasticsearch.",
    ),
    "history": ("history", "Tell what rows were and who changed them, from what was recorded."),
    "inspect": (
        "inspect",
        "Look at the history in a browser: actions, rows, who changed what, and where a value came from.",
    ),
    "journal": ("journal", "Look after the journal."),
    "log": ("log", "Show what was done, oldest first; the last 20 outcomes unless you ask for more."),
    "projections": ("projections", "Read models: documents folded from the journal, to be searched."),
    "replay": ("replay", "Run journaled actions again in a sandbox: what would be, with the present code."),
    "revert": (
        "revert",
        "Put back the rows that one action, and those nested in it, changed: `actionbus show ACTION` shows which.",
    ),
    "run": ("run", "Run an action; `actionbus run ACTION --help` shows its options."),
    "runs": (
        "runs",
        "Queued actions: those on their way, those that ended badly, and what operators decide about them.",
    ),
    "search": ("search", "Find documents that have all the WORDS, in any language they are in."),
    "serve": ("serve", "Serve the HTTP API until SIGTERM or Ctrl-C; requests under way are answered first."),
    "show": ("log", "Show one action whole: what was asked, what came of it, the actions that it caused."),
    "stubs": ("stubs", "Print a Python module that tells type checkers about the actions."),
    "subscriptions": ("subscriptions", "Who follows the journal under a name: code of the application, and streams."),
    "token": ("token", "API tokens: who sends a request is who holds one."),
    "up": ("up", "Run all parts of a service until SIGTERM or Ctrl-C: for development, or a small machine."),
    "worker": ("worker", "Run queued actions until SIGTERM or Ctrl-C."),
}
"""Each command, the module of this folder that has it, and how its help begins, which is shown without an import."""


class Commands(PlainGroup):
    """Imports a command's module when that command is asked for: most need little of what the others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in alphabetical order."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, if there is one of that name."""
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name == "run" and ctx.resilient_parsing:  # a shell completes the line
            completed: click.Command = _imported("run_completion", "run")
            return completed
        found: click.Command = _imported(_COMMANDS[cmd_name][0], cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, of what is known of them without an import."""
        stand_ins = {name: click.Command(name, help=told) for name, (_, told) in _COMMANDS.items()}
        click.Group(commands=stand_ins).format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, of what is known of them without an import."""
        found = [CompletionItem(name, help=_COMMANDS[name][1]) for name in self.list_commands(ctx)]
        return [each for each in found if each.value.startswith(incomplete)] + click.Command.shell_complete(
            self, ctx, incomplete
        )


def _imported(module: str, name: str) -> Any:
    return getattr(import_module(f"actionbus.adapters.cli.{module}"), name)


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
    help="What wakes workers, such as redis://localhost; by default the database does.",
)
@click.option(
    "--leave-calls-to-workers",
    is_flag=True,
    envvar="ACTIONBUS_LEAVE_CALLS_TO_WORKERS",
    show_envvar=True,
    help="Calls that wait for an action's commit are made by workers, not by who ran it.",
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
    leave_calls_to_workers: bool,
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
    context.obj = _imported("common", "Environment")(
        app_path, database, schema, elasticsearch_at, broker, log_format, leave_calls_to_workers
    )
    named = context.get_parameter_source("app_path") is not click.core.ParameterSource.DEFAULT
    context.obj.app_is_default = not named and context.invoked_subcommand != "demo"
    if verbose or log_format == "json":
        log_to_stderr(log_format)
    for told in tell_unknown(os.environ):
        say(("note:", "yellow"), f" {told}", stderr=True)


def main() -> None:
    """The entry point."""
    open_streams()
    try:
        group(prog_name="actionbus")
    except Exception as error:
        raise _imported("explaining", "explained")(error) from None


if __name__ == "__main__":
    main()
