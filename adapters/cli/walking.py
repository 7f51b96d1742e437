"""`actionbus history walk`: goes through history action by action, forward and back; shows what each did to rows."""

from __future__ import annotations

import cmd

from actionbus.adapters.cli.history_output import print_changes, print_rows, say_change, tell
from actionbus.adapters.cli.printing import first_line, say
from actionbus.core import History, JournalFilter
from actionbus.core.errors import ActionBusError


class Walking(cmd.Cmd):
    """A prompt at a point in history: just after the action that is shown."""

    intro = "next, back, jump POINT, diff [POINT], state TABLE, quit; ? for help"

    def __init__(self, history: History, low: str, high: str) -> None:
        super().__init__()
        self._history = history
        begin, end = history.position(low), history.position(high)
        took_effect = JournalFilter(kind=("outcome", "bypass"))
        self._positions = [begin, *(each.position for each in history.journal.read(begin, upto=end, where=took_effect))]
        self._here = 0
        self._go(0)

    def _go(self, number: int) -> None:
        self._here = max(0, min(number, len(self._positions) - 1))
        self.prompt = f"({self._positions[self._here]}) "

    def _show(self) -> None:
        position = self._positions[self._here]
        record = self._history.journal.at(position) if self._here else None
        if record is None:
            say("before the first action")
            return
        named = (record.action, "bold") if record.kind == "outcome" else ("bypass", "bold")
        told = f" {record.status or ''} by {record.actor or 'nobody'}  {record.action_id}"
        say(f"{position:>8}  ", named, f"{told}  ({self._here} of {len(self._positions) - 1})")
        print_changes(record.touched, False)

    def do_next(self, line: str) -> None:
        """next [N]: go N actions on."""
        self._go(self._here + _number(line))
        self._show()

    def do_back(self, line: str) -> None:
        """back [N]: go N actions back."""
        self._go(self._here - _number(line))
        self._show()

    def do_jump(self, line: str) -> None:
        """jump POINT: go to a position, time, action id, start or end."""
        position = self._history.position(line.strip())
        self._go(max((n for n, each in enumerate(self._positions) if each <= position), default=0))
        self._show()

    def do_diff(self, line: str) -> None:
        """diff [POINT]: the rows that differ from another point, by default from before this action."""
        here = self._positions[self._here]
        other = line.strip() or str(self._positions[max(0, self._here - 1)])
        answer = self._history.diff(other, here)
        for each in answer.rows:
            say_change(each.table, each.key, each.before, each.after)
        tell(answer.basis)

    def do_state(self, line: str) -> None:
        """state TABLE: its rows as they were here."""
        answer = self._history.state(line.strip() or None, self._positions[self._here])
        for name, rows in answer.tables.items():
            print_rows(name, rows)
        tell(answer.basis)

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
            kind = "" if isinstance(error, ActionBusError) else f"{type(error).__name__}: "
            say((kind + first_line(error), "red"), stderr=True)
            return False


def _number(line: str) -> int:
    return int(line) if line.strip() else 1
