"""`actionbus journal`: looking after the journal as a whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import click

from actionbus.adapters.cli.common import AgeType, Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import counted, print_table, say
from actionbus.adapters.cli.progress import progress
from actionbus.adapters.cli.stream import stream
from actionbus.replay.archives import transfer
from actionbus.replay.archives.lines import header

_without_history = click.option("--without-history", is_flag=True, help="Leave the row history out.")


@click.group()
def journal() -> None:
    """Look after the journal."""


journal.add_command(stream)


@journal.command()
@json_option
@pass_environment
def stats(env: Environment, as_json: bool) -> None:
    """Count what is in the journal, by action and status."""
    env.bus.journal.require()
    told = env.bus.journal.stats()
    waiting, begun = env.bus.journal.waiting_for(), env.bus.journal.begins.archive()
    if begun:
        say(("note:", "yellow"), f" counts are of all there ever were; {begun.where()}", stderr=True)
    if as_json:
        print_json({**told, "settled": env.bus.journal.settled(), "waiting_for": waiting})
        return
    say(f"{told['records']} records, last position {told['last_position']}")
    if told["first"] and told["last"]:
        say(f"from {told['first'].isoformat()} to {told['last'].isoformat()}")
    for who in waiting:
        say(f"readers wait for {who}")
    rows = [(n["action"], n["status"] or "", str(n["count"]), f"{n['mean_ms']:.1f}") for n in told["actions"]]
    print_table(["action", "status", "count", "mean ms"], rows, whole=("action",))


@journal.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--after", type=click.IntRange(0), default=0, metavar="POSITION", help="Only records beyond this one.")
@click.option("--upto", type=click.IntRange(0), default=None, metavar="POSITION", help="Only records up to this one.")
@click.option(
    "--pseudonymize",
    "fields",
    multiple=True,
    metavar="FIELD",
    help="Replace this field's values everywhere, by made-up ones. `actor` is a field too.",
)
@_without_history
@json_option
@pass_environment
def export(
    env: Environment,
    path: Path,
    after: int,
    upto: int | None,
    fields: tuple[str, ...],
    without_history: bool,
    as_json: bool,
) -> None:
    """Write the journal and the row history to a file (JSON lines, gzip), to be imported elsewhere, as on a laptop.

    The row history goes along where all records do from the start on, and none of their values is replaced.
    """
    env.bus.journal.require()
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}", param_hint="FILE")
    history = None if without_history or after or fields else env.bus.history
    records = env.bus.journal.count(after, upto, kind=None)
    with progress("exporting", None if history else records) as advance:
        count = transfer.export(
            env.bus.journal, path, after=after, upto=upto, pseudonymize=fields, history=history, progress=advance
        )
    if as_json:
        print_json({"file": str(path), "records": count, "history": history is not None})
    else:
        say(f"{counted(count, 'record')} in {path}, {'with' if history else 'without'} the row history")


@journal.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@_without_history
@json_option
@pass_environment
def import_(env: Environment, path: Path, without_history: bool, as_json: bool) -> None:
    """Read an exported file into a journal that is empty; all of it or nothing. The business tables are not touched.

    A row history goes into a database of the kind that it comes from, of which nothing is recorded yet.
    """
    env.bus.journal.require()
    with progress("importing", None) as advance:
        count = transfer.import_into(env.bus, path, advance, history=not without_history)
    history = bool(header(path).get("history")) and not without_history
    if as_json:
        print_json({"file": str(path), "records": count, "history": history})
    else:
        told = "`actionbus history state` tells what was, " if history else ""
        say(f"{counted(count, 'record')}; {told}`actionbus replay verify` runs them again")


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
    say(f"{len(done.interrupted)} interrupted, {len(done.running)} still running and left alone")
    if done.queued:
        say(f"{len(done.queued)} queued, a worker will come; sent or begun again: {len(done.requeued)}")
    if done.too_young:
        say(
            f"{len(done.too_young)} unfinished, but too young to be settled: they may be running still; look at them "
            "too with --older-than 0s"
        )
    for action_id in done.interrupted:
        say(f"  {action_id}")
