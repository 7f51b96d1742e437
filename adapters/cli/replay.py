"""`actionbus replay`: journaled actions re-run in a sandbox. What it prints is made in `adapters.cli.replay_output`."""

from __future__ import annotations

import os
import pdb
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import click

from actionbus.adapters.cli import apart, replay_output
from actionbus.adapters.cli.common import Environment, json_option, pass_environment
from actionbus.adapters.cli.mistyped import refuse_unknown_action
from actionbus.adapters.cli.printing import FAILED, fail, say
from actionbus.adapters.cli.progress import watched
from actionbus.adapters.cli.replay_jobs import side_by_side
from actionbus.adapters.cli.replay_open import open_copy
from actionbus.adapters.links import Links
from actionbus.adapters.sandbox_databases import throwaway
from actionbus.core.values.loading import load
from actionbus.core.values.payload import parse
from actionbus.replay import Replayer, ReplayError
from actionbus.replay.debug import Debugging, under_debugger
from actionbus.replay.export import Export
from actionbus.replay.fork import Forking, inserted_of
from actionbus.replay.narrow_fork import NarrowForking
from actionbus.replay.past.slices import slices

_ALL: Final = ("succeeded", "rejected", "denied", "failed")


class SandboxPlace(NamedTuple):
    """Where history is run again."""

    sandbox: str | None
    prepare: str | None


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a Place."""

    @wraps(command)
    def run_there(*args: Any, sandbox: str | None, prepare: str | None, **options: Any) -> Any:
        return command(*args, place=SandboxPlace(sandbox, prepare), **options)

    options = (
        click.option(
            "--sandbox",
            metavar="URL",
            envvar="ACTIONBUS_SANDBOX_URL",
            help="Where: a server of the journal's kind. By default one that is at hand; see docs/replay.md.",
        ),
        click.option(
            "--prepare",
            metavar="MODULE:FUNCTION",
            help="Makes the tables, given an Engine, as your own migrations do; by default the models do.",
        ),
    )
    for option in reversed(options):
        run_there = option(run_there)
    return run_there


@click.group()
def replay() -> None:
    """Run journaled actions again in a sandbox: what would be, with the present code.

    \b
    Nothing here changes the journal or the outside world: outside calls are answered from the journal.
    A POINT in history is a position, a time, an action's id, `start` or `end`.
    What was is told without running anything: `actionbus history`.
    """


@contextmanager
def _replayer(
    env: Environment, place: SandboxPlace, *, confined: bool = True, writing: Path | None = None
) -> Iterator[Replayer]:
    """A replayer in a database of its own, which is gone afterwards; in a process of its own, which is confined.

    Beside its scratch folder it may write into the one that `writing` lies in.
    """
    bus = env.bus
    bus.journal.require()
    with ExitStack() as held:
        folder, url = held.enter_context(apart.scratch()), held.enter_context(throwaway(bus, place.sandbox))
        if confined:
            apart.fork(held)
        prepare = _loaded(place.prepare) if place.prepare else None
        with Replayer(bus.journal, bus.application, url, prepare=prepare) as replayer:
            if confined:
                also = writing.absolute().parent if writing else None
                apart.confine_child(bus.backend, replayer.sandbox.engine, folder, also=also)
            yield replayer


def _loaded(path: str) -> Any:
    try:
        return load(path, "function")
    except ValueError as error:
        raise ReplayError(str(error)) from None


_from_option = click.option(
    "--from", "low", default="start", show_default=True, metavar="POINT", help="Begin after this point."
)
_to_option = click.option(
    "--to", "high", default="end", show_default=True, metavar="POINT", help="End with this point."
)
_all_option = click.option("--all", "every", is_flag=True, help="Run rejected, denied and failed actions as well.")


@replay.command()
@_from_option
@_to_option
@_all_option
@click.option("--changes", is_flag=True, help="Show the rows that each action changes.")
@_placed
@json_option
@pass_environment
def run(env: Environment, low: str, high: str, every: bool, changes: bool, place: SandboxPlace, as_json: bool) -> None:
    """Run history forward, each action on what those before it make now, and show where that parts from history."""
    with _replayer(env, place) as replayer:
        begin, end = replayer.history.position(low), replayer.history.position(high)
        ending = replay_output.Ending()
        for step in replayer.run(begin, end, statuses=_ALL if every else ("succeeded",)):
            (replay_output.print_step_json if as_json else replay_output.print_step)(step, changes)
            ending.add(step)
    ending.tell()


@replay.command()
@_from_option
@_to_option
@click.option("--action", "actions", multiple=True, metavar="NAME", help="Report only these actions; all are run.")
@_all_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="How to report: for people, as JSON lines, as JUnit XML.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Verify so many slices of history at a time, each in a process of its own.",
)
@click.option("--slice", "is_slice", is_flag=True, hidden=True, help="Tell all to the process that has begun this one.")
@_placed
@json_option
@pass_environment
def verify(
    env: Environment,
    low: str,
    high: str,
    actions: tuple[str, ...],
    every: bool,
    form: str,
    jobs: int,
    is_slice: bool,
    place: SandboxPlace,
    as_json: bool,
) -> None:
    """Check that the present code does what it did: exit code 1 if an action diverges.

    \b
    Each action is run on the recorded state before it, so that no difference follows from another's.
    divergent    it comes out otherwise, and nothing in history explains it
    concurrent   actions that overlapped explain the difference: no divergence
    order        only the order in which rows lie explains it, which no query asked for: no divergence
    retired      there is no such action any more
    unplayable   history does not hold what it takes to run it again
    """
    for each in () if is_slice else actions:
        refuse_unknown_action(env, env.bus.journal, each)
    report = replay_output.Report("slice" if is_slice else "json" if as_json else form, actions, Links.of(os.environ))
    if jobs > 1:
        journal, history = env.bus.journal, env.bus.history
        journal.require()
        options = ["--all"] * every + [f"--action={each}" for each in actions]
        options += [f"--{name}={value}" for name, value in place._asdict().items() if value is not None]
        parts = slices(journal, history.position(low), history.position(high), jobs)
        for told in side_by_side(env, parts, options):
            report.add_document(told)
        raise SystemExit(report.end())
    with _replayer(env, place) as replayer, watched() as watch:
        begin, end = replayer.history.position(low), replayer.history.position(high)
        for step in replayer.verify(begin, end, statuses=_ALL if every else ("succeeded",)):
            watch("verifying", step.position - begin, end - begin)
            report.add(step)
    raise SystemExit(report.end())


@replay.command()
@click.option("--skip", multiple=True, type=click.UUID, metavar="ACTION_ID", help="Leave this action out.")
@click.option("--edit", "edits", multiple=True, metavar="ACTION_ID:ARG=JSON", help="Give it another argument.")
@click.option(
    "--insert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help='Run these too: JSON lines of {"action", "arguments", "actor", "after": POINT}.',
)
@click.option(
    "--with",
    "fakes",
    multiple=True,
    metavar="NAME=MODULE:ATTRIBUTE",
    help="Use this object for an outside dependency, instead of what was recorded.",
)
@click.option(
    "--narrow",
    is_flag=True,
    help="Run again only what seems to touch what differs; fast, and no proof: docs/replay.md.",
)
@_placed
@json_option
@pass_environment
def fork(
    env: Environment,
    skip: tuple[UUID, ...],
    edits: tuple[str, ...],
    insert: Path | None,
    fakes: tuple[str, ...],
    narrow: bool,
    place: SandboxPlace,
    as_json: bool,
) -> None:
    """What if? Run history on with actions skipped, edited or inserted, and show what would be different."""
    edit: dict[UUID, dict[str, Any]] = {}
    for each in edits:
        action_id, name, value = _edit(each)
        edit.setdefault(action_id, {})[name] = value
    overrides = {name: _fake(path) for name, path in map(_pair, fakes)}
    with _replayer(env, place) as replayer:
        inserted = inserted_of(_json_lines(insert), replayer.history.position) if insert else []
        forking = (NarrowForking if narrow else Forking)(
            replayer, skip=skip, edit=edit, insert=inserted, overrides=overrides
        )
        end = replayer.journal.settled()
        with watched() as watch:
            result = forking.run(lambda entry: watch("the other line", entry.position, end))
        replay_output.print_fork(result, as_json=as_json)


def _edit(text: str) -> tuple[UUID, str, Any]:
    action, separator, rest = text.partition(":")
    name, equals, value = rest.partition("=")
    try:
        if not separator or not equals:
            raise ValueError
        action_id = UUID(action)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not ACTION_ID:ARG=JSON", param_hint="--edit") from None
    try:
        return action_id, name, parse(value)
    except ValueError:
        return action_id, name, value


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=MODULE:ATTRIBUTE", param_hint="--with")
    return name, path


def _fake(path: str) -> Any:
    found = _loaded(path)
    return found() if isinstance(found, type) else found


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                yield number, parse(line)
            except ValueError as error:
                raise ReplayError(f"{path}, line {number}: not JSON: {error}") from None


@replay.command()
@click.argument("action_id", type=click.UUID)
@click.option("--post-mortem", is_flag=True, help="Stop where it raises, instead of at its first line.")
@_placed
@pass_environment
def debug(env: Environment, action_id: UUID, post_mortem: bool, place: SandboxPlace) -> None:
    """Run one action again in a debugger, on the state that it saw: pdb, or what PYTHONBREAKPOINT names."""
    with _replayer(env, place, confined=False) as replayer:  # a debugger does as it likes
        debugging = Debugging(replayer, action_id)
        rerun, differences = debugging.run(None if post_mortem else under_debugger)
        if post_mortem:
            if rerun.error is None or rerun.error.__traceback__ is None:
                raise fail(f"the action raises nothing when it is run again; it {rerun.outcome.status}", FAILED)
            say((f"{type(rerun.error).__name__}: {rerun.error}", "red"), stderr=True)
            pdb.post_mortem(rerun.error.__traceback__)
        replay_output.print_rerun(debugging.entry, rerun, differences)


@replay.command("export-test")
@click.argument("action_id", type=click.UUID)
@click.option(
    "--to",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to; by default test_ACTION_POSITION.py.",
)
@_placed
@pass_environment
def export_test(env: Environment, action_id: UUID, path: Path | None, place: SandboxPlace) -> None:
    """Write a pytest file out of one action: the rows it needs, its outside calls, the call, its outcome."""
    with _replayer(env, place, writing=path or Path("test.py")) as replayer:
        debugging = Debugging(replayer, action_id)
        entry = debugging.entry
        path = path or Path(f"test_{entry.outcome.action}_{entry.position}.py")
        rows = Export(debugging, env.app_path).write(path)
        say(f"{path}: {entry.outcome.action} {entry.outcome.status}, on {rows} rows")


replay.add_command(open_copy)
