"""`actionbus runs`: queued actions on their way."""

from __future__ import annotations

import time

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json, print_table, say
from actionbus.adapters.shown import described_run
from actionbus.core.storage.runs import Run


@click.command()
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many to list.")
@json_option
@pass_environment
def runs(env: Environment, limit: int, as_json: bool) -> None:
    """List queued actions that have no outcome yet: queued until their time, then due, then running."""
    env.bus.journal.require()
    found = env.bus.runs.all(limit)
    if as_json:
        for run in found:
            print_json(described_run(run))
        return
    print_table(
        ["state", "action", "due", "queue", "attempts", "worker", "problem", "action id"],
        [_line(run) for run in found],
        whole=("state", "action", "action id"),
    )
    counts = env.bus.runs.counts()
    say(", ".join(f"{number} {state}" for state, number in counts.items()))


def _line(run: Run) -> list[str]:
    wait = run.due_at - time.time()
    due = f"in {wait:.0f} s" if wait > 0 else f"{-wait:.0f} s ago"
    return [run.state, run.action, due, run.queue, str(run.attempts), run.worker or "", run.problem or "",
            str(run.action_id)]  # fmt: skip
