"""`actionbus history archive` and `archives`: history that is no longer needed every day, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.erase import bus_of
from actionbus.adapters.cli.history_output import time_text
from actionbus.adapters.cli.printing import print_table, say
from actionbus.adapters.cli.progress import progress
from actionbus.core import Bus
from actionbus.core.history.pruning import Due
from actionbus.core.storage.archives import Archive, archives
from actionbus.core.values.points import point_of
from actionbus.replay.archives import archive as archiving
from actionbus.replay.archives import attach as attaching
from actionbus.replay.archives import prune as pruning

actor_option = click.option("--actor", metavar="NAME", help="Who does it, for the record.")
_COLUMNS = ("archive", "of", "after", "upto", "records", "images", "state", "made at", "folder")


@click.command()
@click.option("--before", required=True, metavar="POSITION|TIME", help="Records before this one go.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the archive is put; archive-FROM-TO here, unless it is given.",
)
@actor_option
@json_option
@pass_environment
def archive(env: Environment, before: str, folder: Path | None, actor: str | None, as_json: bool) -> None:
    """Put history before a position into a folder, and take it out of the database.

    \b
    The folder is written, read back and compared; only then anything is removed, while others go on writing.
    Rows of all tables stay known from there on. One that was cut off is gone on with by the next call.
    """
    bus = bus_of(env)
    with watching() as watch:
        done = archiving.archive(bus, _upto(bus, before), folder, actor=actor, operator=True, watch=watch)
    if as_json:
        print_json(done.told())
    else:
        say(f"{done.records} records and {done.images} row images up to position {done.upto} are in {done.folder}")


@click.command("archives")
@json_option
@pass_environment
def listed(env: Environment, as_json: bool) -> None:
    """List what was archived, attached again or pruned: where history begins, and where the rest of it is."""
    bus = bus_of(env)
    bus.journal.require()
    found = archives(bus.backend)
    for each in found if as_json else ():
        print_json(each.told())
    if not as_json:
        print_table(_COLUMNS, [_line(each) for each in found], whole=("archive", "folder"))


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER")
@actor_option
@json_option
@pass_environment
def attach(env: Environment, folder: Path, actor: str | None, as_json: bool) -> None:
    """Bring back what an archive holds, all of it or nothing; of several, the last one first.

    It is one transaction. On SQLite nobody else writes meanwhile.
    """
    bus = bus_of(env)
    with watching() as watch:
        outcome = attaching.attach(bus, folder, actor=actor, operator=True, watch=watch)
    told = outcome.result
    if as_json:
        print_json(told)
    else:
        say(f"{told['records']} records and {told['images']} row images up to position {told['upto']} are back")
    if told["erasures_since"]:
        say(
            ("note:", "yellow"),
            f" {told['erasures_since']} erasures were made since; what they erased may be back in clear: repeat them",
            stderr=True,
        )


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@actor_option
@json_option
@pass_environment
def prune(env: Environment, yes: bool, actor: str | None, as_json: bool) -> None:
    """Remove row images that are older than their tables are to be kept (info={"keep": "90 days"}), for good.

    The rows of each table stay known from there on. Records of actions are not touched.
    """
    bus = bus_of(env)

    def confirm(tables: list[Due]) -> None:
        for each in tables:
            told = f"{each.table}: {each.images} images up to position {each.place.upto} are older than {each.keep}"
            say(told, stderr=True)
        if not yes:
            click.confirm("They cannot be had back. Remove them?", abort=True, err=True)

    with watching() as watch:
        done = pruning.prune(bus, actor=actor, operator=True, watch=watch, confirm=confirm)
    for table, told in done.items() if as_json else ():
        print_json({"table": table, **told})
    if not as_json:
        say(f"pruned: {', '.join(done)}" if done else "nothing is older than it is to be kept")


def _line(each: Archive) -> list[str]:
    return [
        str(each.archive),
        each.table_name or "all",
        str(each.after),
        str(each.upto),
        str(each.records),
        str(each.images),
        each.state,
        time_text(each.made_at),
        each.folder or "",
    ]


def _upto(bus: Bus, before: str) -> int:
    """The last position that goes. Raises BadParameter."""
    try:
        point = point_of(before)
    except ValueError:
        point = None
    if isinstance(point, int):
        return point - 1
    if isinstance(point, datetime):
        bus.journal.require()
        return bus.journal.last_before(point)
    raise click.BadParameter(f"{before!r} is no position and no ISO 8601 time", param_hint="--before")


@contextmanager
def watching() -> Iterator[archiving.Watch]:
    """A bar for one step after the other."""
    with ExitStack() as bars:

        def watch(what: str) -> Callable[[], None]:
            bars.close()
            return bars.enter_context(progress(what, None))

        yield watch


COMMANDS = (archive, listed, attach, prune)
