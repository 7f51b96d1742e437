"""`actionbus replay run --interactive`: walks through history, forward and back."""

from __future__ import annotations

import cmd

from actionbus.adapters.cli import replayed
from actionbus.adapters.cli.common import first_line, say
from actionbus.replay import ReplayError
from actionbus.replay.timeline import Timeline


class Stepping(cmd.Cmd):
    """A prompt at a point in history. The tables hold the state after the action that is shown."""

    intro = "next, back, jump POINT, diff [POINT], state TABLE [WHERE], sql STATEMENT, quit; ? for help"

    def __init__(self, timeline: Timeline, low: int, high: int) -> None:
        super().__init__()
        self._timeline = timeline
        self._positions = [low, *timeline.positions(low, high)]
        self._here = 0
        self._go(0)

    def _go(self, number: int) -> None:
        self._here = max(0, min(number, len(self._positions) - 1))
        position = self._positions[self._here]
        self._timeline.go(position)
        self.prompt = f"({position}) "

    def _show(self) -> None:
        position = self._positions[self._here]
        record = self._timeline.journal.at(position) if position else None
        if record is None:
            say("before the first action")
            return
        told = f"{self._here} of {len(self._positions) - 1}"
        by = record.actor or "nobody"
        say(f"{position:>8}  ", (record.action, "bold"), f" {record.status} by {by}  {record.action_id}  ({told})")
        say(f"          {replayed.shown(record.arguments, 200)}")
        replayed.print_changes(self._timeline.sandbox.changes(position), as_json=False)

    def do_next(self, line: str) -> None:
        """next [N]: run N actions on."""
        self._go(self._here + _number(line))
        self._show()

    def do_back(self, line: str) -> None:
        """back [N]: go N actions back."""
        self._go(self._here - _number(line))
        self._show()

    def do_jump(self, line: str) -> None:
        """jump POINT: go to a position, time, action id, start or end."""
        position = self._timeline.position(line.strip())
        self._go(max((n for n, each in enumerate(self._positions) if each <= position), default=0))
        self._show()

    def do_diff(self, line: str) -> None:
        """diff [POINT]: rows that differ from another point, by default from before this action."""
        here = self._positions[self._here]
        other = self._timeline.position(line.strip()) if line.strip() else self._positions[max(0, self._here - 1)]
        replayed.print_changes(self._timeline.diff(other, here), as_json=False)
        self._timeline.go(here)

    def do_state(self, line: str) -> None:
        """state TABLE [WHERE]: rows as they are here."""
        table, _, where = line.strip().partition(" ")
        rows = list(self._timeline.rows(table, where or None))
        replayed.print_rows(list(rows[0]) if rows else [], [tuple(row.values()) for row in rows])

    def do_sql(self, line: str) -> None:
        """sql STATEMENT: run it on the state; what it writes is taken back."""
        replayed.print_rows(*self._timeline.query(line))

    def do_quit(self, line: str) -> bool:
        """quit: leave."""
        return True

    do_EOF = do_quit  # noqa: N815 - what cmd calls at the end of input

    def emptyline(self) -> bool:
        """Enter alone goes one action on."""
        self.do_next("")
        return False

    def onecmd(self, line: str) -> bool:
        """Say what is wrong with a command instead of ending."""
        try:
            return bool(super().onecmd(line))
        except Exception as error:
            kind = "" if isinstance(error, ReplayError) else f"{type(error).__name__}: "
            say((kind + first_line(error), "red"), stderr=True)
            return False


def _number(line: str) -> int:
    return int(line) if line.strip() else 1
