"""`actionbus journal`: looking after the journal as a whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import click

from adapters.cli.common import AgeType, Environment, json_option, pass_environment, print_json, print_table


@click.group()
def journal() -> None:
    """Look after the journal."""


@journal.command()
@json_option
@pass_environment
def stats(env: Environment, as_json: bool) -> None:
    """Count what is in the journal, by action and status."""
    env.bus.journal.require()
    told = env.bus.journal.stats()
    waiting = env.bus.journal.waiting_for()
    if as_json:
        print_json({**told, "settled": env.bus.journal.settled(), "waiting_for": waiting})
        return
    click.echo(f"{told['records']} records, last position {told['last_position']}")
    if told["records"]:
        click.echo(f"from {told['first'].isoformat()} to {told['last'].isoformat()}")
    for who in waiting:
        click.echo(f"readers wait for {who}")
    rows = [(each["action"], each["status"], str(each["count"]), f"{each['mean_ms']:.1f}") for each in told["actions"]]
    print_table(["action", "status", "count", "mean ms"], rows)


@journal.command()
@click.option(
    "--older-than", type=AgeType(), default=timedelta(minutes=1), metavar="AGE", help="90s, 15m, 2h; 1m if left out."
)
@json_option
@pass_environment
def recover(env: Environment, older_than: timedelta, as_json: bool) -> None:
    """Give actions whose process died the outcome `interrupted`, and send queued ones to the broker again.

    Safe at any time: actions that still run are recognised and left alone, and a message too many does nothing.
    """
    env.bus.journal.require()
    done = env.bus.recover(older_than)
    if as_json:
        print_json(asdict(done))
        return
    click.echo(f"{len(done.interrupted)} interrupted, {len(done.running)} still running and left alone")
    if done.queued:
        told = "no broker was given (--broker)" if env.bus.queue is None else f"sent again: {len(done.requeued)}"
        click.echo(f"{len(done.queued)} queued; {told}")
    for action_id in done.interrupted:
        click.echo(f"  {action_id}")
