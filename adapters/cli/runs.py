"""`actionbus runs`: queued actions, and what operators decide about them; each decision is an action on record."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click

from actionbus.adapters.cli.common import (
    Environment,
    MomentType,
    is_operator,
    json_option,
    pass_environment,
    print_json,
)
from actionbus.adapters.cli.mistyped import refuse_unknown_queues
from actionbus.adapters.cli.printing import FAILED, REJECTED, SUCCEEDED, USAGE, fail, print_table, say
from actionbus.adapters.json_views import described_dead_letter, described_run
from actionbus.core import ActionRunner, InvalidArguments, Misuse, Outcome
from actionbus.core.storage.queue_state import DeadLetter, Queues
from actionbus.core.storage.runs import STATES, Run


class RunId(click.ParamType[UUID]):
    """The id of an action."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        try:
            return value if isinstance(value, UUID) else UUID(value)
        except ValueError:
            self.fail(f"{value!r} is no action's id; `actionbus runs list` shows them", param, ctx)


_ids = click.argument("ids", type=RunId(), nargs=-1, required=True, metavar="ACTION_ID...")
_actor = click.option("--actor", envvar="ACTIONBUS_ACTOR", help="On whose behalf; by default who is logged in.")


@click.group()
def runs() -> None:
    """Queued actions: those on their way, those that ended badly, and what operators decide about them.

    \b
    actionbus runs list --queue media --state due
    actionbus runs list --dead
    actionbus runs retry ACTION_ID
    actionbus runs pause media

    Every decision is an action in the journal, with who made it: `actionbus log --action cancel_run`.
    """


@runs.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many to list.")
@click.option("--queue", metavar="NAME", help="Only of this queue.")
@click.option("--action", metavar="NAME", help="Only this action.")
@click.option("--state", type=click.Choice(STATES), help="Only in this state.")
@click.option("--dead", is_flag=True, help="Those that ended badly, and that nobody ran again or took off the list.")
@json_option
@pass_environment
def list_(
    env: Environment, limit: int, queue: str | None, action: str | None, state: str | None, dead: bool, as_json: bool
) -> None:
    """List queued actions that have no outcome yet: queued until their time, then due, then running."""
    env.bus.journal.require()
    if dead:
        if queue or action or state:
            raise click.UsageError("--dead can be combined with --limit and --json only")
        _list_dead(env, limit, as_json)
        return
    found = env.bus.runs.all(limit, queue=queue, action=action, state=state)
    if queue and not found:
        refuse_unknown_queues(env, [queue])
    if as_json:
        for run in found:
            print_json(described_run(run))
        return
    print_table(
        ["state", "action", "due", "action id", "queue", "attempts", "worker", "problem"],
        [_line(run) for run in found],
        whole=("state", "action", "due", "action id"),
        below="problem",
    )
    say(", ".join(f"{number} {each}" for each, number in env.bus.runs.counts().items()))
    queues = Queues(env.bus.backend)
    for each in queues.states():
        if each.paused:
            say(f"the queue {each.name} is paused; {each.waiting} wait, {each.running} run")
    if waiting := len(queues.dead_letters(1000)):
        say(f"{'1000 or more' if waiting == 1000 else waiting} ended badly: `actionbus runs list --dead`")


def _list_dead(env: Environment, limit: int, as_json: bool) -> None:
    found = Queues(env.bus.backend).dead_letters(limit)
    if as_json:
        for letter in found:
            print_json(described_dead_letter(letter))
        return
    print_table(
        ["status", "action", "ended", "action id", "queue", "attempts", "problem"],
        [_dead_line(letter) for letter in found],
        whole=("status", "action", "ended", "action id"),
        below="problem",
    )
    if found:
        say("`actionbus runs retry ACTION_ID` queues one again, `runs cancel` takes it off this list")


@runs.command()
@click.argument("action_id", type=RunId(), metavar="ACTION_ID")
@json_option
@pass_environment
def show(env: Environment, action_id: UUID, as_json: bool) -> None:
    """Show one queued action: its place in the queue, attempts, and what keeps it waiting."""
    env.bus.journal.require()
    run = env.bus.runs.get(action_id)
    if run is None:
        outcome = env.bus.journal.outcome(action_id)
        told = f"has its outcome: {outcome.status}; `actionbus show {action_id}`" if outcome else "is not queued"
        raise fail(f"the action {action_id} {told}", FAILED)
    if as_json:
        print_json(described_run(run))
        return
    for name, value in described_run(run).items():
        say((f"{name.replace('_', ' '):<16}", "bold"), str(value))
    paused = {each.name for each in Queues(env.bus.backend).states() if each.paused}
    if run.queue in paused:
        say(f"its queue is paused: `actionbus runs resume {run.queue}`")


def _decide(
    env: Environment,
    actor: str | None,
    ids: tuple[UUID, ...],
    decide: Callable[[ActionRunner, UUID], Outcome],
    told: Callable[[Outcome], str],
) -> None:
    """Decide about each, and go on where one is refused."""
    runner, refused = _operator(env, actor), SUCCEEDED
    for action_id in ids:
        try:
            outcome = decide(runner, action_id)
        except (InvalidArguments, Misuse) as error:
            refused = max(REJECTED if isinstance(error, InvalidArguments) else FAILED, refused)
            say(("error:", "bold red"), f" {action_id}: {error}", stderr=True)
            continue
        say(f"{action_id} {told(outcome)} (action {outcome.action_id})")
    if refused:
        raise SystemExit(refused)


def _operator(env: Environment, actor: str | None) -> ActionRunner:
    env.bus.journal.require()
    return env.bus.runner(actor or (getpass.getuser() if is_operator() else None), operator=is_operator())


@runs.command()
@_ids
@_actor
@pass_environment
def cancel(env: Environment, ids: tuple[UUID, ...], actor: str | None) -> None:
    """Keep queued actions from being run. One that runs is asked to end, if its handler looks at `self.cancelled`."""
    told = {"waiting": "is cancelled", "running": "runs, and is asked to end", "dead": "is off the list"}
    _decide(env, actor, ids, lambda runner, each: runner.cancel(each), lambda outcome: told[outcome.result["was"]])


@runs.command()
@_ids
@_actor
@pass_environment
def retry(env: Environment, ids: tuple[UUID, ...], actor: str | None) -> None:
    """Queue again what ended badly, as new actions, on behalf of who asked for the first."""
    _decide(
        env,
        actor,
        ids,
        lambda runner, each: runner.retry(each),
        lambda outcome: f"is queued again as {outcome.result['again']}",
    )


@runs.command()
@_ids
@click.option("--at", type=MomentType(), metavar="TIME", help="When they are due: ISO 8601.")
@click.option("--in", "seconds", type=click.FloatRange(0), metavar="SECONDS", help="In how many seconds they are due.")
@_actor
@pass_environment
def reschedule(
    env: Environment, ids: tuple[UUID, ...], at: datetime | None, seconds: float | None, actor: str | None
) -> None:
    """Let queued actions that wait be due at another time."""
    if (at is None) == (seconds is None):
        raise click.UsageError("say when: either --at TIME or --in SECONDS")
    when = at if at is not None else datetime.now(UTC) + timedelta(seconds=seconds or 0)
    _decide(env, actor, ids, lambda runner, each: runner.reschedule(each, when), _due)


@runs.command("run-now")
@_ids
@_actor
@pass_environment
def run_now(env: Environment, ids: tuple[UUID, ...], actor: str | None) -> None:
    """Let queued actions that wait be due now."""
    _decide(env, actor, ids, lambda runner, each: runner.reschedule(each), _due)


def _due(outcome: Outcome) -> str:
    return f"is due at {outcome.result['due_at']}"


@runs.command()
@click.argument("queue")
@_actor
@pass_environment
def pause(env: Environment, queue: str, actor: str | None) -> None:
    """Let no more actions of a queue be begun; what runs goes on, what comes waits."""
    _change(env, queue, lambda: _operator(env, actor).pause(queue), "is paused", "was paused already")


@runs.command()
@click.argument("queue")
@_actor
@pass_environment
def resume(env: Environment, queue: str, actor: str | None) -> None:
    """Let actions of a queue be begun again."""
    _change(env, queue, lambda: _operator(env, actor).resume(queue), "goes on", "was not paused")


def _change(env: Environment, queue: str, decide: Callable[[], Outcome], done: str, was: str) -> None:
    try:
        outcome = decide()
    except InvalidArguments as error:
        raise fail(f"{queue}: {error}", USAGE) from None
    say(f"the queue {queue} {done if outcome.result['changed'] else was} (action {outcome.action_id})")


def _line(run: Run) -> list[str]:
    problem = "cancelled" if run.cancelled_by else run.problem or ""
    return [
        run.state,
        run.action,
        _from_now(run.due_at),
        str(run.action_id),
        run.queue,
        str(run.attempts),
        run.worker or "",
        problem,
    ]


def _dead_line(each: DeadLetter) -> list[str]:
    return [
        each.status,
        each.action,
        _from_now(each.ended_at),
        str(each.action_id),
        each.queue,
        str(each.attempts),
        each.problem or "",
    ]


def _from_now(moment: float) -> str:
    wait = moment - time.time()
    return f"in {wait:.0f} s" if wait > 0 else f"{-wait:.0f} s ago"
