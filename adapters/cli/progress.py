"""A progress bar with rate and time left, on standard error; silent when that is no terminal.

Whoever began the command may have opened a file for it (ACTIONBUS_PROGRESS_FD), which then says as JSON how far it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from actionbus.core.values.payload import dumps

_EVERY_S: Final = 0.1
_ROOM: Final = 300


class RateColumn(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """The latest rate, or the mean one once all is done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan")


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar while the block runs; call what is yielded after each step."""
    with _bar() as bar:
        task = bar.add_task(what, total=total)
        tell, done = _teller(), 0

        def advance() -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if total is not None:
                tell(what, done, total)

        yield advance


@contextmanager
def watched() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that reports (what, done, total)."""
    with _bar() as bar:
        tasks: dict[str, TaskID] = {}
        tell = _teller()

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)
            tell(what, done, total)

        yield watch


def _teller() -> Callable[[str, int, int], None]:
    """Writes how far it is into the file that was opened for it: in place, so that whoever reads sees one state whole.

    The file is open before a replay is confined, which may open no other.
    """
    given = os.environ.get("ACTIONBUS_PROGRESS_FD", "")
    if not given.isdigit():
        return lambda what, done, total: None
    last = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last < _EVERY_S:
            return
        last = now
        text = dumps({"what": what[:100], "done": done, "total": total})
        with suppress(OSError):
            os.pwrite(int(given), text.encode().ljust(_ROOM), 0)

    return tell
