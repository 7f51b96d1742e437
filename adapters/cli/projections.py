"""`actionbus projections`: feed read models, look after them, rebuild them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from actionbus.adapters.cli.common import AgeType, Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.feeding import add_commands
from actionbus.adapters.cli.printing import FAILED, counted, print_table, say
from actionbus.adapters.cli.progress import watched
from actionbus.adapters.cli.signals import until_asked
from actionbus.adapters.safe_text import joined
from actionbus.projections import Projector
from actionbus.projections.status import Status

_NAMES = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.group()
def projections() -> None:
    """Read models: documents folded from the journal, to be searched.

    \b
    actionbus projections run          feed all of them until Ctrl-C
    actionbus projections status       where they are
    actionbus projections rebuild NAME build the index anew beside the old one
    actionbus projections verify NAME  compare it with the journal
    """


@projections.command()
@_NAMES
@click.option("--once", is_flag=True, help="Absorb what there is, with progress, and end.")
@click.option(
    "--slices", "part", metavar="N/M", default="1/1", help="Only slice N of M, by key; run one process for each."
)
@click.option("--metrics", type=click.IntRange(1, 65535), metavar="PORT", help="Serve Prometheus metrics on this port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="The address to serve metrics on.")
@pass_environment
def run(
    env: Environment, names: tuple[str, ...], once: bool, part: str, metrics: int | None, metrics_host: str
) -> None:
    """Feed projections (all, or those named) until Ctrl-C. Another process that does so already is stood by for.

    With --once it is not: that fails. The lease of one that was killed is waited for until it runs out.
    """
    number, of = _slice(part)
    env.bus.journal.require()
    projector = Projector(env.bus, env.store, names or None, part=number, parts=of)
    if once:
        with watched() as watch:
            reached = projector.catch_up(watch)
        say(", ".join(f"{name} at {position}" for name, position in reached.items()))
        return
    if metrics:
        from actionbus.adapters.metrics import serve

        serve(env.bus, env.operations, metrics_host, metrics)
    say(f"feeding {env.store.describe()} from the journal; Ctrl-C stops after the batch", stderr=True)
    with until_asked() as stop:
        projector.run(stop)


def _slice(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise click.BadParameter(f"{text!r} is not a slice such as 2/4", param_hint="--slices")
    return int(number), int(of)


@projections.command()
@json_option
@click.option("--check", is_flag=True, help="Exit with 1 unless all are alive and well: a health check.")
@click.option("--max-lag", type=AgeType(), metavar="AGE", help="With --check: how far behind they may be, such as 60s.")
@pass_environment
def status(env: Environment, as_json: bool, check: bool, max_lag: timedelta | None) -> None:
    """Show position, lag, rate, state, and whether somebody feeds them."""
    found = env.operations.status()
    if as_json:
        for each in found:
            print_json({**asdict(each), "healthy": each.healthy})
    else:
        columns = ("projection", "index", "slice", "role", "state", "alive", "position", "lag", "rate", "eta")
        print_table(
            columns, [_row(each) for each in found], whole=("projection", "index", "role", "state", "position", "lag")
        )
        for each in found:
            _explain(each)
    late = [each for each in found if max_lag and each.role == "serving" and each.lag_seconds > max_lag.total_seconds()]
    if check and (late or not all(each.healthy for each in found)):
        raise SystemExit(FAILED)


def _row(each: Status) -> tuple[str, ...]:
    lag = f"{each.lag_positions:,} ({each.lag_seconds:.0f} s)" if each.lag_positions else "0"
    rate = f"{each.rate:,.0f}/s" if each.rate else ""
    eta = f"{each.eta_seconds:.0f} s" if each.eta_seconds else ""
    return (
        each.projection,
        each.index or "-",
        each.slice,
        each.role,
        each.state,
        "yes" if each.alive else "no",
        f"{each.position:,}",
        lag,
        rate,
        eta,
    )


def _explain(each: Status) -> None:
    detail = each.detail
    if text := detail.get("message") or detail.get("error"):
        say("")
        say(f"{each.projection}: {joined(str(text))}")
    if each.verified and not each.verified.is_right and each.verified.told not in str(text):
        say("")
        say(f"{each.projection}: {joined(each.verified.told)}: `actionbus projections rebuild {each.projection}`")
    if detail.get("waiting_for"):
        say("")
        say(f"{each.projection}: waits at {detail['held_at']} for {', '.join(detail['waiting_for'])}")
    if detail.get("traceback"):
        for told in detail["traceback"].rstrip().splitlines():
            say(told)
    if each.state == "stopped" and detail.get("position"):
        again = "rebuild" if each.role == "building" else "retry"
        say(
            f"mend the reducer and `actionbus projections {again} {each.projection}`, or leave the record out: "
            f"`actionbus projections skip {each.projection}`"
        )


@projections.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Report what would differ, document by document; change nothing.")
@click.option("--rollback", is_flag=True, help="Let readers see the index before the last rebuild, if it is current.")
@click.option(
    "--take-over", is_flag=True, help="Even if the name is in use for another journal: its readers see this one then."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    envvar="ACTIONBUS_REBUILD_RATE",
    metavar="N",
    help="Read at most N records a second of the journal, so that live traffic keeps its part.",
)
@json_option
@pass_environment
def rebuild(
    env: Environment, name: str, dry_run: bool, rollback: bool, take_over: bool, rate: float | None, as_json: bool
) -> None:
    """Build a projection's index anew beside the old one, verify it, swap them. Resumes a rebuild that was cut off."""
    if dry_run and rollback:
        raise click.UsageError("--dry-run and --rollback exclude each other")
    if rollback:
        say(f"{name} is served by {env.operations.rollback(name)}")
        return
    with watched() as watch:
        if not dry_run:
            index = env.operations.rebuild(name, take_over=take_over, rate=rate, watch=watch)
            say(f"{name} is served by {index}; the one before is kept until `prune`, for --rollback")
            return
        count = 0
        for each in env.operations.differences(name, watch=watch):
            count += 1
            if as_json:
                print_json(each._asdict())
            else:
                say(f"{each.change:<7} {each.key}")
                _show_change(each.before or {}, each.after or {})
    if not as_json:
        say(f"{counted(count, 'document')} would differ")


def _show_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            say(f"          {name}: {before.get(name)!r} → {after.get(name)!r}")


@projections.command()
@click.argument("name")
@click.option("--sample", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="About so many.")
@click.option("--all", "whole", is_flag=True, help="All documents.")
@json_option
@pass_environment
def verify(env: Environment, name: str, sample: int, whole: bool, as_json: bool) -> None:
    """Compare what readers see with a fold of the journal by the present reducers, and name what differs.

    Documents that are missing, surplus, differing, or ahead (newer than all that was written from here). Right while
    they are fed. Changes nothing; status and metrics show the outcome. Exits with 1 if anything is wrong.
    """
    with watched() as watch:
        found = env.operations.verification(name, sample=None if whole else sample, watch=watch)
        for each in found:
            if as_json:
                print_json(each._asdict())
            else:
                say(f"{each.kind:<9} {each.key} (version {each.version})")
                _show_change(each.stored or {}, each.folded or {})
    outcome = found.outcome
    assert outcome is not None, "the iteration came to its end"
    if as_json:
        print_json({**asdict(outcome), "right": outcome.is_right})
    else:
        say(f"{name} {outcome.told}")
        if outcome.differences and outcome.problem:
            say(outcome.problem)
    if not outcome.is_right:
        raise SystemExit(FAILED)


@projections.command()
@click.option("--older-than", type=AgeType(), default="1d", show_default=True, metavar="AGE", help="Age of tombstones.")
@pass_environment
def prune(env: Environment, older_than: timedelta) -> None:
    """Remove indices that nobody reads, and tombstones below every checkpoint and older than an age.

    Only indices of this journal, made by a projection of its application; nothing else, whatever it is called.
    """
    removed = env.operations.prune(older_than)
    say(f"removed {counted(removed['indices'], 'index', 'indices')} and {counted(removed['tombstones'], 'tombstone')}")


@projections.command()
@click.argument("name")
@pass_environment
def forget(env: Environment, name: str) -> None:
    """Remove what is left of a projection that the application has no more: its indices and checkpoints.

    Only those of this journal and database, and only while nobody feeds them.
    """
    say(f"removed {counted(env.operations.forget(name), 'index', 'indices')} of {name}")


add_commands(
    projections,
    "projection",
    lambda env: env.operations,
    of_rebuilds=" It holds through rebuilds too; a rebuild that is asked for meanwhile goes on.",
)
