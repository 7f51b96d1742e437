"""`actionbus subscriptions`: look after those who follow the journal under a name."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import click

from actionbus.adapters.cli.common import AgeType, Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.feeding import add_commands
from actionbus.adapters.cli.printing import FAILED, print_table, say
from actionbus.adapters.safe_text import joined
from actionbus.projections import Subscriptions, SubscriptionStatus


@click.group()
def subscriptions() -> None:
    """Who follows the journal under a name: code of the application, and streams.

    `actionbus projections run` feeds those that the application declares, besides its projections; `actionbus journal
    stream --name NAME` feeds whatever reads its output.
    """


def _operations(env: Environment) -> Subscriptions:
    env.bus.journal.require()
    return Subscriptions(env.bus)


@subscriptions.command()
@json_option
@click.option("--check", is_flag=True, help="Exit with 1 unless all are well: a health check.")
@click.option("--max-lag", type=AgeType(), metavar="AGE", help="With --check: how far behind they may be, such as 60s.")
@pass_environment
def status(env: Environment, as_json: bool, check: bool, max_lag: timedelta | None) -> None:
    """Show position, lag, state, and whether somebody follows."""
    found = _operations(env).status()
    if as_json:
        for each in found:
            print_json({**asdict(each), "healthy": each.healthy})
    else:
        columns = ("subscription", "kind", "state", "alive", "position", "lag")
        print_table(columns, [_row(each) for each in found], whole=("subscription", "state", "position", "lag"))
        for each in found:
            _explain(each)
    late = [each for each in found if max_lag and each.lag_seconds > max_lag.total_seconds()]
    if check and (late or not all(each.healthy for each in found)):
        raise SystemExit(FAILED)


def _row(each: SubscriptionStatus) -> tuple[str, ...]:
    lag = f"{each.lag_positions:,} ({each.lag_seconds:.0f} s)" if each.lag_positions else "0"
    kind = "declared" if each.is_declared else "stream"
    return each.name, kind, each.state, "yes" if each.alive else "no", f"{each.position:,}", lag


def _explain(each: SubscriptionStatus) -> None:
    if text := each.detail.get("message") or each.detail.get("error"):
        say("")
        say(f"{each.name}: {joined(str(text))}")
    for told in str(each.detail.get("traceback", "")).rstrip().splitlines():
        say(told)
    if each.state == "stopped" and each.detail.get("position"):
        say(
            f"mend it and `actionbus subscriptions retry {each.name}`, or leave the record out: "
            f"`actionbus subscriptions skip {each.name}`"
        )


@subscriptions.command()
@click.argument("name")
@click.option("--to", type=click.IntRange(0), required=True, metavar="POSITION", help="It goes on beyond this one.")
@click.option("--reason", default="", help="Why, for whoever wonders.")
@click.option("--actor", help="On whose behalf.")
@pass_environment
def reset(env: Environment, name: str, to: int, reason: str, actor: str | None) -> None:
    """Let it go on beyond another position: what lies between comes again, or never. An action in the journal."""
    outcome = _operations(env).reset(name, to, actor=actor, reason=reason)
    say(f"{name} goes on beyond {to}, instead of {outcome.result['from']} (action {outcome.action_id})")


add_commands(subscriptions, "subscription", _operations)
