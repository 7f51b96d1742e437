"""`actionbus snapshot`: copies of the business tables, for replays to start from and to be checked against."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json, print_table, say
from actionbus.adapters.places import snapshots
from actionbus.replay import Snapshot

_folder_option = click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Where snapshots are kept: var/replay/snapshots, or below ACTIONBUS_REPLAY.",
)  # fmt: skip


@click.group()
def snapshot() -> None:
    """Copy the business tables, knowing exactly which actions the copy contains."""


@snapshot.command()
@_folder_option
@json_option
@pass_environment
def create(env: Environment, folder: Path | None, as_json: bool) -> None:
    """Take one, in a single REPEATABLE READ transaction.

    An application that has data already takes one before its first action: replays then begin with it.
    """
    env.bus.journal.require()
    made = Snapshot.create(env.bus, folder or snapshots())
    if as_json:
        print_json(asdict(made))
        return
    rows = sum(made.tables.values())
    say(f"{made.path}: {rows} rows of {len(made.tables)} tables, up to position {made.position}")
    if made.missing:
        shown = ", ".join(str(each) for each in made.missing[:20])
        say(f"not in it, in flight or rolled back at the time: {shown}{' …' if len(made.missing) > 20 else ''}")


@snapshot.command("list")
@_folder_option
@json_option
@pass_environment
def list_(env: Environment, folder: Path | None, as_json: bool) -> None:
    """List the snapshots of this journal."""
    env.bus.journal.require()
    found = Snapshot.all(folder or snapshots(), env.bus.journal.identity())
    if as_json:
        for each in found:
            print_json(asdict(each))
        return
    print_table(
        ["position", "taken", "rows", "not in it", "file"],
        [[str(each.position), each.taken_at[:19], str(sum(each.tables.values())), str(len(each.missing)), each.path]
         for each in found],
        whole=("position", "file"),
    )  # fmt: skip
