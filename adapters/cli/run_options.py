"""The options of `actionbus run` that every action has beside its Args'. Used by `run` and `run_completion`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

_OWN: Final = {"actor", "arguments", "idempotency_key", "json", "help", "async", "eta", "countdown", "preview"}


def flag_of(argument: str) -> str:
    """The option by which an action's argument is given."""
    return f"--{'arg-' if argument in _OWN else ''}{argument.replace('_', '-')}"


def options_of_lines(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `run` itself, for actions that come as lines."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print outcomes as JSON, one per line (with --lines)."),
        click.option("--actor", envvar="ACTIONBUS_ACTOR", show_envvar=True, help="Who acts (with --lines)."),
        click.option("--lines", metavar="@FILE|-", help="Actions of any name, one JSON object per line."),
    ):
        command = option(command)
    return command


def own_options() -> list[click.Parameter]:
    """The options that `run` gives every action, beside those of its arguments."""
    return [
        click.Option(["own_actor", "--actor"], envvar="ACTIONBUS_ACTOR", show_envvar=True, help="Who acts."),
        click.Option(
            ["own_arguments", "--arguments"],
            metavar="JSON|@FILE|-",
            help="All arguments as one JSON object; or @FILE or - (standard input) with one object per line.",
        ),
        click.Option(["own_idempotency_key", "--idempotency-key"], metavar="KEY", help="Take effect once per key."),
        click.Option(["own_async", "--async"], is_flag=True, help="Only validate and queue it; a worker runs it."),
        click.Option(["own_eta", "--eta"], metavar="TIME", help="When it is due, in ISO 8601 (queued)."),
        click.Option(["own_countdown", "--countdown"], type=float, metavar="SECONDS", help="Due after that (queued)."),
        click.Option(["own_preview", "--preview"], is_flag=True, help="Show what it would do, and roll back."),
        click.Option(["own_json", "--json"], is_flag=True, help="Print outcomes as JSON, one per line."),
    ]
