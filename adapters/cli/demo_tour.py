"""What the demonstration shows of what it imported: the journal, who did what to a row, and how it is put back.

Each command is printed as a user would type it, and run by the command itself. Used by `adapters.cli.demo`.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import Any

import click

from actionbus.adapters.cli.history import history
from actionbus.adapters.cli.log import line_of
from actionbus.adapters.cli.printing import say, say_short
from actionbus.adapters.cli.revert import revert
from actionbus.core import Bus
from actionbus.core.values.record import Status


def show_journal(bus: Bus, before: int) -> None:
    """The journal's tail, and one action of each kind that came to nothing beyond the position `before`."""
    say_title("The journal's tail: what was asked, and what came of it")
    for record in bus.journal.tail(8, kind="outcome"):
        say_short(line_of(record))
    _show_last(bus, before, "rejected", "A rejected action: its arguments were refused")
    _show_last(bus, before, "denied", "A denied one: the sharing rules said no")
    _show_last(bus, before, "failed", "A failed one: it raised, and everything it did was rolled back")


def _show_last(bus: Bus, before: int, status: Status, title: str) -> None:
    say_title(title)
    for record in list(bus.journal.read(before, status=status, kind="outcome"))[-1:]:
        say_short(line_of(record))


def show_history(bus: Bus, before: int) -> None:
    """The history of the kit that was renamed: who did it, since when, what it was before; and that put back."""
    record = list(bus.journal.read(before, action="rename_kit", status="succeeded"))[-1]
    kit, name = str(record.arguments["kit_id"]), str(record.arguments["name"])
    _show("Who gave this kit its name", history, "blame", "kits", kit, "name")
    _show("Since when it has it", history, "bisect", "kits", kit, f"name={name}")
    _show(
        "The kits as they were just before",
        history,
        "state",
        "--table",
        "kits",
        "--at",
        str(record.position - 1),
        "-n",
        "3",
    )
    _show("Put back what that action changed, as an action on record", revert, str(record.action_id), "--actor", "ana")
    _show("All that became of the row", history, "rows", "kits", kit)


def _show(title: str, command: click.Command, *arguments: str) -> None:
    parents = [command.name or "", arguments[0]] if isinstance(command, click.Group) else [command.name or ""]
    rest = arguments[len(parents) - 1 :]
    say_title(title)
    say(("$ actionbus " + shlex.join([*parents, *rest]), "bold cyan"))
    found = command.commands[arguments[0]] if isinstance(command, click.Group) else command
    context = click.get_current_context()
    options: dict[str, Any] = found.make_context(found.name, list(rest), parent=context).params
    context.invoke(found, **options)


def say_title(title: str) -> None:
    """A line in bold after an empty one."""
    say("")
    say((title, "bold"))


def show_next(*, has_stopped_elasticsearch: bool) -> None:
    """Commands to go on with, which work from where the user stands."""
    command = "actionbus" if shutil.which("actionbus") else sys.argv[0]
    say_title("Next")
    wait = ["elasticsearch start          it was stopped, its documents are kept"] if has_stopped_elasticsearch else []
    for what in (
        *wait,
        "search heart --facet tags    the assets, in any of eleven languages",
        "log --status denied -n 5     who was not allowed what",
        "show POSITION                one action whole, with the rows that it touched",
        "history diff 100             what differs between a point in history and now",
        "replay verify --from 12000   run what is journaled again, with the present code",
        "run create_kit --actor you --name 'My kit'",
        "run create_kit --help",
        "inspect --open               all of it in a browser: what was done, what rows were, who gave a value",
    ):
        say(f"  {command} {what}")
