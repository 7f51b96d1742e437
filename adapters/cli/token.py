"""`actionbus token`: API tokens of the reference application, made, listed and revoked by whoever operates it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click

from actionbus.adapters.cli.common import Environment, FiniteRange, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import print_table, say
from actionbus.adapters.library import tokens
from actionbus.adapters.library.app import library
from actionbus.core import Bus


@click.group()
def token() -> None:
    """API tokens: who sends a request is who holds one. Of each, only the SHA-256 is kept."""


@token.command()
@click.argument("actor")
@click.option(
    "--days", type=FiniteRange(0, 3650, min_open=True), default=90.0, show_default=True, help="How long it is valid."
)
@click.option("--label", default="", help="What it is for.")
@json_option
@pass_environment
def add(env: Environment, actor: str, days: float, label: str, as_json: bool) -> None:
    """Make a token for ACTOR and show it, this once, with the id to revoke it by."""
    bus = _bus(env)
    made = tokens.issue(bus, actor, days=days, label=label)
    if as_json:
        print_json({"token": made, "token_id": tokens.id_of(bus, made)})
        return
    say(made)
    say(f"token id {tokens.id_of(bus, made)}, valid for {days:g} days; it is shown only now", stderr=True)


@token.command("list")
@click.option("--actor", help="Only of this actor.")
@json_option
@pass_environment
def list_tokens(env: Environment, actor: str | None, as_json: bool) -> None:
    """List tokens that were not revoked, the newest last."""
    found = tokens.listed(_bus(env), actor)
    if as_json:
        for each in found:
            print_json(each)
        return
    print_table(["token id", "actor", "expires", "label"], [_line(each) for each in found], whole=("token id", "actor"))


@token.command()
@click.argument("token_id", type=click.UUID)
@pass_environment
def revoke(env: Environment, token_id: UUID) -> None:
    """Let a token be accepted no more, from now on."""
    tokens.revoke(_bus(env), token_id)
    say(f"revoked {token_id}")


def _bus(env: Environment) -> Bus:
    if env.application is not library:
        raise click.UsageError("tokens are the reference application's; yours says itself who sends a request")
    env.bus.journal.require()
    return env.bus


def _line(told: dict[str, Any]) -> list[str]:
    expires = f"{told['expires_at']:%Y-%m-%d %H:%M}" + ("" if told["valid"] else " (over)")
    return [str(told["token_id"]), told["actor"], expires, told["label"]]
