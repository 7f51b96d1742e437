"""`actionbus replay`: history re-run in a sandbox. What it prints is made in `adapters.cli.replayed`."""

from __future__ import annotations

import pdb
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import click

from actionbus.adapters.cli import replayed
from actionbus.adapters.cli.common import FAILED, Environment, fail, json_option, pass_environment, print_json, say
from actionbus.adapters.cli.interactive import Stepping
from actionbus.adapters.cli.progress import watched
from actionbus.adapters.places import kept, snapshots, throwaway
from actionbus.core.values.payload import parse
from actionbus.replay import Replayer, ReplayError, Snapshot
from actionbus.replay.bisect import bisect as search
from actionbus.replay.bisect import loaded, python_check, sql_check
from actionbus.replay.code import fingerprint
from actionbus.replay.debug import Debugging, under_debugger
from actionbus.replay.documents import Documents, documents_at
from actionbus.replay.export import Export
from actionbus.replay.fork import Forking, inserted_of
from actionbus.replay.timeline import Timeline

_ALL: Final = ("succeeded", "rejected", "denied", "failed")
_at_option = click.option(
    "--at", default="end", show_default=True, metavar="POINT", help="POSITION, ISO 8601 TIME, ACTION_ID, start or end."
)


class Place(NamedTuple):
    """Where and from what history is run again."""

    sandbox: str | None
    prepare: str | None
    start: str


def _placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a Place."""

    @wraps(command)
    def run_there(*args: Any, sandbox: str | None, prepare: str | None, start: str, **options: Any) -> Any:
        return command(*args, place=Place(sandbox, prepare, start), **options)

    options = (
        click.option("--sandbox", metavar="URL", envvar="ACTIONBUS_SANDBOX_URL",
                     help="Where: a database server, or sqlite://. By default what the journal itself is on."),
        click.option("--prepare", metavar="MODULE:FUNCTION",
                     help="Makes the tables, given an Engine, as your own migrations do; by default the models do."),
        click.option("--start", default="start", metavar="POINT",
                     help="Begin with the last snapshot up to here; by default one of position 0, or nothing."),
    )  # fmt: skip
    for option in reversed(options):
        run_there = option(run_there)
    return run_there


@click.group()
def replay() -> None:
    """Run history again in a sandbox, and ask it what happened.

    \b
    Nothing here changes the journal or the outside world: outside calls are answered from the journal.
    A POINT in history is a position, a time, an action's id, `start` or `end`.
    """


@contextmanager
def _timeline(env: Environment, place: Place) -> Iterator[Timeline]:
    """The timeline, replayed as far as it was the last time."""
    bus = env.bus
    bus.journal.require()
    _warn_of_dialect(env, place.sandbox)
    start = Snapshot.nearest(snapshots(), bus.journal.identity(), _position(env, place.start))
    loaded = _loaded(place.prepare)
    with (
        kept(bus, place.sandbox, fingerprint(bus), start.position if start else 0) as url,
        Timeline(bus.journal, bus.application, url, start=start, prepare=loaded) as timeline,
    ):
        yield timeline


def _loaded(path: str | None) -> Any:
    return loaded(path, "function") if path else None


def _warn_of_dialect(env: Environment, sandbox: str | None) -> None:
    if sandbox and not sandbox.startswith(env.bus.journal.dialect):
        told = (
            f" the journal is of {env.bus.journal.dialect}, the sandbox is not: errors of the database are compared "
            "by type and constraint, and digests of values not at all"
        )
        say(("warning:", "yellow"), told, stderr=True)


def _extended(timeline: Timeline, upto: int | None) -> None:
    """Replay what is missing, with a bar, and say how many actions do not come out as recorded."""
    end = timeline.journal.settled() if upto is None else upto
    if end > timeline.sandbox.head:
        begin = timeline.sandbox.head
        with watched() as watch:
            timeline.extend(end, lambda step: watch("replaying", step.position - begin, end - begin))
            watch("replaying", end - begin, end - begin)
    if problems := timeline.problems():
        told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(problems.items()))
        what = (
            f" with the present code not every action comes out as it did ({told}); what is shown is what the present "
            "code does. `actionbus replay verify` lists them"
        )
        say(("note:", "yellow"), what, stderr=True)


@replay.command()
@click.option("--from", "low", default="start", show_default=True, metavar="POINT", help="Begin after this point.")
@click.option("--to", "high", default="end", show_default=True, metavar="POINT", help="End with this point.")
@click.option("--all", "every", is_flag=True, help="Run rejected, denied and failed actions as well.")
@click.option("-i", "--interactive", is_flag=True, help="Step through: next, back, jump, diff, state.")
@click.option("--changes", is_flag=True, help="Show the row changes of each action.")
@_placed
@json_option
@pass_environment
def run(
    env: Environment, low: str, high: str, every: bool, interactive: bool, changes: bool, place: Place, as_json: bool,
) -> None:  # fmt: skip
    """Run history again, and show each action with what differs."""
    if interactive:
        with _timeline(env, place) as timeline:
            end = timeline.position(high)
            _extended(timeline, end)
            Stepping(timeline, timeline.position(low), end).cmdloop()
        return
    with _replaying(env, place, low, log=changes or as_json) as (replayer, begin):
        end = _position(env, high)
        for step in replayer.steps(end, statuses=_ALL if every else ("succeeded",)):
            if step.position > begin:
                (replayed.print_step_json if as_json else replayed.print_step)(step, changes)


@contextmanager
def _replaying(env: Environment, place: Place, low: str, *, log: bool) -> Iterator[tuple[Replayer, int]]:
    """A fresh replayer from the snapshot nearest to a point, and the point."""
    bus = env.bus
    bus.journal.require()
    _warn_of_dialect(env, place.sandbox)
    begin = _position(env, low)
    first = begin if place.start == "start" else _position(env, place.start)
    start = Snapshot.nearest(snapshots(), bus.journal.identity(), first)
    log = log or bus.journal.dialect == "postgresql"
    with throwaway(bus, place.sandbox, in_memory=not log) as url:
        loaded = _loaded(place.prepare)
        with Replayer(bus.journal, bus.application, url, start=start, prepare=loaded, log=log) as replayer:
            yield replayer, begin


def _position(env: Environment, point: str) -> int:
    return Timeline.position_in(env.bus.journal, point)


@replay.command()
@click.option("--from", "low", default="start", show_default=True, metavar="POINT", help="Begin after this point.")
@click.option("--to", "high", default="end", show_default=True, metavar="POINT", help="End with this point.")
@click.option("--action", "actions", multiple=True, metavar="NAME", help="Report only these actions; all are run.")
@click.option("--all", "every", is_flag=True, help="Run rejected, denied and failed actions as well.")
@click.option("--format", "form", type=click.Choice(["text", "json", "junit"]), default="text", show_default=True,
              help="How to report: for people, as JSON lines, as JUnit XML.")  # fmt: skip
@_placed
@json_option
@pass_environment
def verify(
    env: Environment, low: str, high: str, actions: tuple[str, ...], every: bool, form: str, place: Place,
    as_json: bool,
) -> None:  # fmt: skip
    """Check that the present code reproduces history: exit code 1 if an action diverges.

    \b
    divergent    it comes out otherwise, and nothing in history explains it
    concurrent   actions that overlapped explain the difference: no divergence
    unplayable   the journal does not hold what it takes to run it again: no divergence

    On the way, the state is compared with every snapshot in the range: what differs was written outside the gateway.
    """
    form = "json" if as_json else form
    end = _position(env, high)
    taken = Snapshot.all(snapshots(), env.bus.journal.identity())
    with _replaying(env, place, low, log=bool(taken)) as (replayer, begin):
        timeline = Timeline.of(replayer)
        report = replayed.Report(form, actions)
        before = replayer.sandbox.head
        with watched() as watch:
            for step in replayer.steps(end, statuses=_ALL if every else ("succeeded",)):
                watch("verifying", step.position - before, end - before)
                if step.position > begin:
                    report.add(step)
        first = replayer.start.position if replayer.start else -1
        for snapshot in taken:
            if first < snapshot.position <= end:
                report.add_snapshot(snapshot, timeline.check(snapshot))
    raise SystemExit(report.end())


@replay.command()
@_at_option
@click.option("--table", "tables", multiple=True, help="Only this table; several times for more.")
@click.option("--where", metavar="SQL", help="Only rows for which this holds; with one --table.")
@click.option("--sql", metavar="STATEMENT", help="Run this on the state instead; what it writes is taken back.")
@_placed
@json_option
@pass_environment
def state(
    env: Environment, at: str, tables: tuple[str, ...], where: str | None, sql: str | None, place: Place, as_json: bool,
) -> None:  # fmt: skip
    """Show the tables as they were at a point in history."""
    if where and len(tables) != 1:
        raise click.UsageError("--where needs one --table")
    with _timeline(env, place) as timeline:
        position = timeline.position(at)
        _extended(timeline, position)
        timeline.go(position)
        if sql:
            replayed.print_rows(*timeline.query(sql), as_json=as_json)
            return
        names = tables or [table.fullname for table in timeline.tables()]
        for name in names:
            rows = list(timeline.rows(name, where))
            if as_json:
                for row in rows:
                    print_json({"table": name, "row": replayed.plain(row)})
                continue
            if len(names) > 1:
                say((name, "bold"), f"  {len(rows)} rows")
            replayed.print_rows(list(rows[0]) if rows else [], [tuple(row.values()) for row in rows])


@replay.command()
@click.argument("one", metavar="POINT")
@click.argument("other", metavar="POINT")
@click.option("--table", "tables", multiple=True, help="Only this table; several times for more.")
@_placed
@json_option
@pass_environment
def diff(
    env: Environment, one: str, other: str, tables: tuple[str, ...], place: Place,
    as_json: bool,
) -> None:  # fmt: skip
    """Show which rows differ between two points in history."""
    with _timeline(env, place) as timeline:
        points = timeline.position(one), timeline.position(other)
        _extended(timeline, max(points))
        changes = [change for change in timeline.diff(*points) if not tables or change.table in tables]
        replayed.print_changes(changes, as_json=as_json)


@replay.command()
@click.argument("table")
@click.argument("key")
@click.argument("column", required=False)
@click.option("--history", is_flag=True, help="Every change, not the last of each column alone.")
@_at_option
@_placed
@json_option
@pass_environment
def blame(
    env: Environment, table: str, key: str, column: str | None, history: bool, at: str, place: Place, as_json: bool,
) -> None:  # fmt: skip
    """Show which action last wrote each column of a row, who asked for it, and when.

    The parts of a composite KEY are separated by commas.
    """
    with _timeline(env, place) as timeline:
        position = timeline.position(at)
        _extended(timeline, position)
        named = timeline.key(table, key)
        if history:
            found = replayed.history(timeline.versions(table, named, position), column)
        else:
            found = [each for each in timeline.blame(table, named, position) if column in (None, each.column)]
        if not found:
            known = [each.name for each in timeline.sandbox.log.find(table).table.columns]
            if column and column not in known:
                raise click.UsageError(f"{table} has no column {column!r}; there are: {', '.join(known)}")
            raise fail(f"no action up to position {position} wrote {table} {key}", FAILED)
        replayed.print_blame(found, as_json=as_json)


@replay.command()
@click.option("--sql", metavar="STATEMENT", help='Holds where its first value is true: "select count(*) from …".')
@click.option("--python", "python", metavar="MODULE:FUNCTION", help="Holds where it says so, given a Connection.")
@click.option("--documents", metavar="PROJECTION", help="With --python: it is given this projection's documents.")
@click.option("--good", default="start", show_default=True, metavar="POINT", help="Where it does not hold yet.")
@click.option("--bad", default="end", show_default=True, metavar="POINT", help="Where it holds.")
@click.option("--linear", is_flag=True, help="Check after every action, for a condition that comes and goes.")
@_placed
@json_option
@pass_environment
def bisect(
    env: Environment, sql: str | None, python: str | None, documents: str | None, good: str, bad: str, linear: bool,
    place: Place, as_json: bool,
) -> None:  # fmt: skip
    """Find the first action after which something holds."""
    if (sql is None) == (python is None) or (documents and not python):
        raise click.UsageError("give --sql or --python; --documents goes with --python")
    with _timeline(env, place) as timeline:
        low, high = timeline.position(good), timeline.position(bad)
        _extended(timeline, high)
        if documents:
            check = _documents_check(env, documents, _loaded(python))
        elif sql:
            check = sql_check(timeline, sql)
        else:
            check = python_check(timeline, python or "")
        found = search(check, timeline.positions(low, high), low, linear=linear)
        changes = timeline.sandbox.changes(found.position) if found.position is not None else []
        record = env.bus.journal.at(found.position) if found.position is not None else None
        replayed.print_found(found, record, changes, as_json=as_json)
    raise SystemExit(0 if found.position is not None else FAILED)


def _documents_check(env: Environment, name: str, predicate: Callable[[Any], Any]) -> Callable[[int], bool]:
    projection = replayed.projection_of(env.bus.application, name)
    latest = Documents(env.bus.journal, projection)

    def check(position: int) -> bool:
        nonlocal latest
        if position < latest.position:
            latest = Documents(env.bus.journal, projection)
        latest.go(position)
        return bool(predicate(latest.all()))

    return check


@replay.command()
@click.argument("projection")
@_at_option
@click.option("--into", metavar="INDEX", help="Write them into this new Elasticsearch index instead of printing them.")
@json_option
@pass_environment
def documents(env: Environment, projection: str, at: str, into: str | None, as_json: bool) -> None:
    """Show a projection's documents as they were at a point in history."""
    env.bus.journal.require()
    position = _position(env, at)
    chosen = replayed.projection_of(env.bus.application, projection)
    found = documents_at(env.bus.journal, chosen, position)
    if into:
        replayed.write_documents(env.store, chosen, into, found)
        say(f"{len(found)} documents in {into}")
        return
    for key, document in found.items():
        if as_json:
            print_json({"key": key, "document": document})
        else:
            say((key, "bold"), f"  {replayed.shown(document)}")


@replay.command()
@click.option("--skip", multiple=True, type=click.UUID, metavar="ACTION_ID", help="Leave this action out.")
@click.option("--edit", "edits", multiple=True, metavar="ACTION_ID:ARG=JSON", help="Give it another argument.")
@click.option("--insert", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help='Run these too: JSON lines of {"action", "arguments", "actor", "after": POINT}.')  # fmt: skip
@click.option("--with", "fakes", multiple=True, metavar="NAME=MODULE:ATTRIBUTE",
              help="Use this object for an outside dependency, instead of what was recorded.")  # fmt: skip
@_placed
@json_option
@pass_environment
def fork(
    env: Environment, skip: tuple[UUID, ...], edits: tuple[str, ...], insert: Path | None, fakes: tuple[str, ...],
    place: Place, as_json: bool,
) -> None:  # fmt: skip
    """What if? Run history on with actions skipped, edited or inserted, and show what would be different."""
    with _timeline(env, place) as timeline:
        _extended(timeline, None)
        edit: dict[UUID, dict[str, Any]] = {}
        for each in edits:
            action_id, name, value = _edit(each)
            edit.setdefault(action_id, {})[name] = value
        inserted = inserted_of(_json_lines(insert), timeline.position) if insert else []
        overrides = {name: _fake(path) for name, path in map(_pair, fakes)}
        forking = Forking(timeline, skip=skip, edit=edit, insert=inserted, overrides=overrides)
        end = timeline.sandbox.head
        with watched() as watch:
            result = forking.run(lambda entry: watch("the other line", entry.position, end))
        replayed.print_fork(result, as_json=as_json)


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
def debug(env: Environment, action_id: UUID, post_mortem: bool, place: Place) -> None:
    """Run one action again in a debugger, on the state that it saw: pdb, or what PYTHONBREAKPOINT names."""
    with _timeline(env, place) as timeline:
        debugging = Debugging(timeline, action_id)
        _extended(timeline, debugging.entry.position - 1)
        rerun, differences = debugging.run(None if post_mortem else under_debugger)
        if post_mortem:
            if rerun.error is None or rerun.error.__traceback__ is None:
                raise fail(f"it raises nothing; it {rerun.outcome.status}", FAILED)
            say((f"{type(rerun.error).__name__}: {rerun.error}", "red"), stderr=True)
            pdb.post_mortem(rerun.error.__traceback__)
        replayed.print_rerun(debugging.entry, rerun, differences)


@replay.command("export-test")
@click.argument("action_id", type=click.UUID)
@click.option("--to", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to; by default test_ACTION_POSITION.py.")  # fmt: skip
@_placed
@pass_environment
def export_test(env: Environment, action_id: UUID, path: Path | None, place: Place) -> None:
    """Write a pytest file out of one action: the rows it needs, its outside calls, the call, its outcome."""
    with _timeline(env, place) as timeline:
        debugging = Debugging(timeline, action_id)
        _extended(timeline, debugging.entry.position - 1)
        entry = debugging.entry
        path = path or Path(f"test_{entry.outcome.action}_{entry.position}.py")
        rows = Export(timeline, debugging, env.app_path).write(path)
        say(f"{path}: {entry.outcome.action} {entry.outcome.status}, on {rows} rows")
