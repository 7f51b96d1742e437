"""What the command line prints without knowing anything of buses: lines, tables, errors, wrong usage.

It imports nothing of the core, so that `--version`, `--help` and completion of commands answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from actionbus.adapters.safe_text import joined, plain, plain_lines

SUCCEEDED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REJECTED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130
EXIT_CODES: Final = {
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "rejected": REJECTED,
    "denied": DENIED,
    "interrupted": FAILED,
}
_NARROWEST: Final = 10
_GAP: Final = 2
_INDENT: Final = 4


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Rich would exit with 1; that `head` has read enough is no failure."""
        raise read_enough()


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that writes no colour codes into a pipe, and takes nothing for markup."""
    if width is None:
        width = None if is_cut() else 200
    wrap = not sys.stdout.isatty()
    return _Terminal(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=wrap)


Part = str | tuple[str, str]
"""Text, or text and its style."""


def line(*parts: Part) -> Text:
    """One line made of parts, whatever is in them."""
    made = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(plain(text), style=style)
    return made


def say(*parts: Part, stderr: bool = False) -> None:
    """Print one line for a person."""
    console(stderr=stderr).print(line(*parts))


def say_short(made: Text, whole: str = "") -> None:
    """Print one line, cut off where the terminal ends; what is `whole` stands at its end, and is never cut."""
    to = console()
    if whole:
        made.truncate(max(1, to.width - cell_len(plain(whole)) - 2), overflow="ellipsis")
        made.append_text(line((f"  {whole}", "dim")))
    to.print(made, overflow="ellipsis", no_wrap=True, crop=not whole, soft_wrap=bool(whole))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    whole: Collection[str] = (),
    first_to_go: Collection[str] = (),
    below: str | None = None,
) -> None:
    """A table that fits the terminal; in a pipe nothing is cut.

    Where it is too narrow, columns are left out, and named: those of `first_to_go`, the last one first, before anything
    is cut; of the others the last ones, where they would be cut to nothing. Columns named by `whole` are never cut:
    where the terminal is too narrow for them, its lines wrap. The column `below` is what one looks for: where it would
    be cut, it stands whole under its row instead.
    """
    cells = [[plain(each) for each in row] for row in rows]
    under: list[str] = []
    if below is not None and is_cut() and _total(columns, cells) > console().width:
        at = list(columns).index(below)
        under = [row.pop(at) for row in cells]
        columns = [name for name in columns if name != below]
    widths = [max(cell_len(each) for each in column) for column in zip(columns, *cells, strict=True)]
    uncut = {*whole, *first_to_go}
    least = [width if name in uncut else min(width, _NARROWEST) for name, width in zip(columns, widths, strict=True)]
    there = console().width if is_cut() else sum(widths) + _GAP * len(widths)
    shown = list(range(len(columns)))
    shown = _fitting(widths, shown, {number for number in shown if columns[number] not in first_to_go}, there)
    shown = _fitting(least, shown, {number for number in shown if columns[number] in whole}, there)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for number in shown:
        width = widths[number] if columns[number] in uncut else None
        table.add_column(Text(plain(columns[number])), width=width, min_width=least[number])
    for row in cells:
        table.add_row(*(Text(row[number], no_wrap=True, overflow="ellipsis") for number in shown))
    terminal = console(width=max(there, _width(least, shown)))
    with terminal.capture() as captured:
        terminal.print(table, crop=False)
    for number, drawn in enumerate(captured.get().splitlines()):
        click.echo(drawn)
        if number and under and under[number - 1]:
            terminal.print(Padding(Text(under[number - 1]), (0, 0, 0, _INDENT), expand=False), soft_wrap=False)
    if left := [name for number, name in enumerate(columns) if number not in shown]:
        say(("note:", "yellow"), f" too narrow for {', '.join(left)}; --json has all", stderr=True)


def _total(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    widths = [max(cell_len(each) for each in column) for column in zip(columns, *cells, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1)


def _fitting(widths: Sequence[int], shown: list[int], kept: Collection[int], there: int) -> list[int]:
    """Those of the columns that there is room for, and those that are kept; the first one always is."""
    for number in reversed(shown[1:]):
        if _width(widths, shown) > there and number not in kept:
            shown = [each for each in shown if each != number]
    return shown


def _width(widths: Sequence[int], shown: Collection[int]) -> int:
    return sum(widths[each] for each in shown) + _GAP * (len(shown) - 1)


def is_cut() -> bool:
    """Whether somebody looks at what is printed, so that it is made to fit; not in a pipe."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def fail(message: str, code: int) -> SystemExit:
    """Print an error for a person, on one line; raise what is returned."""
    say(("error:", "bold red"), f" {joined(message)}", stderr=True)
    return SystemExit(code)


def counted(number: int, what: str, several: str | None = None) -> str:
    """`1 row`, `2 rows`; `1 index`, `2 indices`."""
    return f"{number} {what if number == 1 else several or what + 's'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class PlainGroup(click.Group):
    """A group whose messages about wrong usage hold nothing that steers a terminal."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """As click does."""
        with _plain_messages():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with _plain_messages():
            return super().invoke(ctx)


@contextmanager
def _plain_messages() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise read_enough() from None
    except (KeyboardInterrupt, click.Abort):
        raise fail("interrupted", INTERRUPTED) from None
    except click.ClickException as error:
        told = error.format_message()
        if (clean := plain_lines(told)) == told:
            raise
        if isinstance(error, click.UsageError):
            raise click.UsageError(clean, error.ctx) from None
        raise click.ClickException(clean) from None


def read_enough() -> SystemExit:
    """For when whoever reads our output has gone."""
    print_no_more()
    return SystemExit(SUCCEEDED)


def print_no_more() -> None:
    """Throw away what is printed from now on, so that the interpreter's last flush is quiet."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the interpreter closes it


def open_streams() -> None:
    """Where a shell closed them (`>&-`), Python has no streams, and the next file that is opened gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - the interpreter closes it
