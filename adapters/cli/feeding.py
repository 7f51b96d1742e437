"""Commands by which operators look after whatever is fed from the journal: `retry`, `skip`, `pause`, `resume`.

`actionbus projections` and `actionbus subscriptions` have them, each for its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import click

from actionbus.adapters.cli.common import Environment, pass_environment
from actionbus.adapters.cli.printing import USAGE, fail, say
from actionbus.core import Outcome


class Operations(Protocol):
    """What the commands do their work by."""

    def retry(self, name: str) -> int: ...
    def skip(self, name: str, position: int | None = None, *, actor: str | None = None) -> Outcome: ...
    def pause(self, name: str, *, actor: str | None = None, reason: str = "") -> Outcome: ...
    def resume(self, name: str, *, actor: str | None = None) -> Outcome: ...


def add_commands(
    group: click.Group, what: str, operations: Callable[[Environment], Operations], *, of_rebuilds: str = ""
) -> None:
    """Add them to a group; `what` they are about, in their help, and what a pause means for rebuilds of it."""
    name_argument = click.argument("name")
    actor_option = click.option("--actor", help="On whose behalf.")

    @group.command(help=f"Try a stopped {what} again, after its cause was mended.")
    @name_argument
    @pass_environment
    def retry(env: Environment, name: str) -> None:
        say(f"{name} is tried again" if operations(env).retry(name) else f"{name} is not stopped")

    @group.command(help=f"Leave out the record that stopped a {what}. The decision is an action in the journal.")
    @name_argument
    @click.option("--position", type=int, help="The record, to be sure; by default the one that stopped it.")
    @actor_option
    @pass_environment
    def skip(env: Environment, name: str, position: int | None, actor: str | None) -> None:
        try:
            outcome = operations(env).skip(name, position, actor=actor)
        except ValueError as error:
            raise fail(str(error), USAGE) from None
        record = outcome.result.get("position", outcome.result.get("to"))
        say(f"{name} goes on without record {record} (action {outcome.action_id})")

    @group.command(
        help=f"Let a {what} stand still, wherever it is fed, until `resume`, through restarts.{of_rebuilds}\n\n"
        "The decision is an action in the journal, and `status` says whose it is."
    )
    @name_argument
    @click.option("--reason", default="", help="Why, for whoever wonders.")
    @actor_option
    @pass_environment
    def pause(env: Environment, name: str, reason: str, actor: str | None) -> None:
        outcome = operations(env).pause(name, actor=actor, reason=reason)
        say(f"{name} pauses within a second or two (action {outcome.action_id})")

    @group.command(help=f"Let a {what} that was paused go on where it stood.")
    @name_argument
    @actor_option
    @pass_environment
    def resume(env: Environment, name: str, actor: str | None) -> None:
        outcome = operations(env).resume(name, actor=actor)
        say(f"{name} goes on (action {outcome.action_id})")
