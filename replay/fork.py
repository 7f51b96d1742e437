"""What if: a second line of history, with actions skipped, edited or inserted. `actionbus replay fork` asks.

It begins with the recorded state before the first changed action, and every later one is run again on the other line.
For each row that either line has written since, both values are kept; where no row differs any more and no change is
left to come, the lines have met, and what follows would be the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from actionbus.core import Record
from actionbus.core.history.decoding import ErasedValue
from actionbus.core.storage.rows import Row
from actionbus.core.values.change import reads_same
from actionbus.replay.errors import ReplayError
from actionbus.replay.past.history import Entry, first_position, whole
from actionbus.replay.past.nets import HeldRow, Net, RowChange
from actionbus.replay.replayer import Replayer
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.divergence import Difference
from actionbus.replay.verdicts.playable import why_not_replayable, why_rows_not_known

_ALL: Final = ("succeeded", "rejected", "denied", "failed")
_Row = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class InsertedAction:
    """An action that never was, to be run after a position."""

    after: int
    action: str
    arguments: dict[str, Any]
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedOutcome:
    """An action that ends differently now. `then` is None for an inserted one, `now` for a skipped one."""

    position: int
    action_id: UUID
    action: str
    then: Record | None
    now: Row | None
    differences: tuple[Difference, ...] = ()


@dataclass(slots=True)
class Fork:
    """What came of a fork: outcomes that changed, and rows that differ in the end."""

    ended: list[ChangedOutcome] = field(default_factory=list)
    rows: list[RowChange] = field(default_factory=list)
    """Row by row: `before` as history has it in the end, `after` on the other line."""
    begun_at: int = 0
    met_at: int | None = None
    """Where the two lines became equal again for good."""
    run: int = 0
    taken: int = 0
    """How many actions a narrow fork took as recorded."""


class Forking:
    """One fork of history, in a replayer's sandbox. `overrides` are fakes for outside dependencies; calls are made."""

    def __init__(
        self,
        replayer: Replayer,
        *,
        skip: Sequence[UUID] = (),
        edit: Mapping[UUID, Mapping[str, Any]] | None = None,
        insert: Sequence[InsertedAction] = (),
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._replayer = replayer
        self._journal = replayer.journal
        self._sandbox = replayer.sandbox
        skipped = [whole(self._journal, each) for each in skip]
        edited = [(whole(self._journal, each), dict(told)) for each, told in (edit or {}).items()]
        self._skip = {each.action_id for each in skipped}
        self._edit = {entry.action_id: told for entry, told in edited}
        changed = [*skipped, *(entry for entry, _ in edited)]
        self._changed = [first_position(each) for each in changed]
        self._last_changed = max((each.position for each in changed), default=0)
        self._insert = sorted(insert, key=lambda each: each.after)
        self._overrides = dict(overrides or {})
        self._chosen = {*self._skip, *self._edit}
        self._last_change = max(self._last_changed, *(each.after for each in self._insert), 0)
        self._lines = Lines()
        replayer.noting = self._lines.note_both
        for entry, told in edited:
            self._check_edit(entry, told)

    def _check_edit(self, entry: Entry, told: Mapping[str, Any]) -> None:
        name = entry.submitted.action
        known = self._sandbox.bus.registry.get(name).handler.arguments
        if unknown := sorted(set(told) - set(known)):
            raise ReplayError(f"{name} has no argument {unknown[0]!r}; there are: {', '.join(known)}")

    def run(self, progress: Callable[[Entry], None] | None = None) -> Fork:
        """Run the other line, and tell what differs."""
        fork = Fork()
        starts = [*(position - 1 for position in self._changed), *(each.after for each in self._insert)]
        if not starts and not self._overrides:
            return fork
        fork.begun_at = min(starts, default=0)
        self._follow(fork, progress)
        fork.rows = self._lines.differing()
        return fork

    def _follow(self, fork: Fork, progress: Callable[[Entry], None] | None) -> None:
        pending = list(self._insert)
        for entry, recorded in self._replayer.begin(fork.begun_at, statuses=_ALL):
            while pending and pending[0].after < entry.position:
                self._run_inserted(fork, pending.pop(0))
            self._take(entry, recorded, fork)
            if progress:
                progress(entry)
            is_last = entry.position >= self._last_change and not pending and not self._overrides
            if is_last and not self._lines.differ():
                fork.met_at = entry.position
                return
        for each in pending:
            self._run_inserted(fork, each)

    def _take(self, entry: Entry, recorded: list[Net], fork: Fork) -> None:
        """One action of history, on the other line."""
        self._lines.note(0, recorded)
        if entry.action_id in self._skip:
            fork.ended.append(
                ChangedOutcome(entry.position, entry.action_id, entry.outcome.action, entry.outcome, None)
            )
            return
        if (why_not_replayable(entry) or why_rows_not_known(recorded)) is not None:
            self._as_recorded(recorded)
            return
        again = datetime.now(UTC)
        rerun = self._run(entry, recorded, self._edit.get(entry.action_id))
        fork.run += 1
        differences = self._replayer.compare(entry, rerun, recorded, again)
        if rerun.stood_in and differences and entry.action_id not in self._edit:
            self._sandbox.drop(rerun)
            differences = self._replayer.without_secrets(entry, recorded, differences)
            rerun = self._run(entry, recorded, None) if differences else rerun
        if not differences or rerun.unplayable:
            self._sandbox.drop(rerun)
            self._as_recorded(recorded)
            return
        self._sandbox.keep(rerun)
        self._lines.note(1, rerun.nets)
        fork.ended.append(
            ChangedOutcome(
                entry.position, entry.action_id, entry.outcome.action, entry.outcome, rerun.outcome, tuple(differences)
            )
        )

    def _as_recorded(self, recorded: list[Net]) -> None:
        """The action came out on this line as it did in history."""
        self._sandbox.put(recorded)
        self._lines.note(1, recorded)

    def _run(self, entry: Entry, recorded: list[Net], edits: Mapping[str, Any] | None) -> Rerun:
        arguments = {**entry.submitted.arguments, **edits} if edits else None
        return self._sandbox.run(entry, recorded, arguments=arguments, overrides=self._overrides)

    def _run_inserted(self, fork: Fork, each: InsertedAction) -> None:
        entry = _made_up(each, self._moment(each.after), self._journal.identity())
        rerun = self._run(entry, [], None)
        self._sandbox.keep(rerun)
        fork.run += 1
        self._lines.note(1, rerun.nets)
        fork.ended.append(ChangedOutcome(each.after, entry.action_id, each.action, None, rerun.outcome))

    def _moment(self, after: int) -> datetime:
        record = self._journal.at(after) or next(self._journal.read(limit=1), None)
        if record is None:
            raise ReplayError("the journal is empty; there is nothing to insert an action into")
        return record.recorded_at


class PartedRows(NamedTuple):
    """The rows in which two lines differ, their tables, and by table what is in their keys."""

    rows: frozenset[_Row]
    tables: frozenset[str]
    by_table: dict[str, set[str]]


class Lines:
    """The rows that either line has written since they parted, as both have them."""

    def __init__(self) -> None:
        self._rows: dict[_Row, list[HeldRow | None]] = {}
        self._keyless: dict[_Row, list[Any]] = {}
        self._parted: set[_Row] = set()
        self._told: PartedRows | None = None

    def note(self, line: int, nets: Sequence[Net]) -> None:
        """What a line, 0 for history and 1 for the other, made of rows; before the first change both had the same."""
        self._told = None
        for net in nets:
            if not net.shape.key:
                self._note_keyless(line, net)
                continue
            row = net.table, str(net.key)
            values = self._rows.setdefault(row, [net.before, net.before])
            values[line] = net.after
            (self._parted.discard if _are_alike(*values) else self._parted.add)(row)

    def note_both(self, nets: Sequence[Net]) -> None:
        """What is the same on both lines from here on: nobody's action made it."""
        for line in (0, 1):
            self.note(line, nets)

    def note_known(self, net: Net) -> None:
        """The same of a row that neither line had made different; of one that neither wrote nothing need be known."""
        if not net.shape.key or (net.table, str(net.key)) in self._rows:
            self.note_both([net])

    def parted(self) -> PartedRows:
        """The rows that differ now."""
        if self._told is None:
            keys: dict[str, set[str]] = {}
            for row in self._parted:
                for held in self._rows.get(row, ()):
                    if held is not None:
                        values = held.values()
                        keys.setdefault(row[0], set()).update(str(values[name]) for name in held.shape.key)
            self._told = PartedRows(frozenset(self._parted), frozenset(table for table, _ in self._parted), keys)
        return self._told

    def _note_keyless(self, line: int, net: Net) -> None:
        for held, times in ((net.before, -1), (net.after, 1)):
            if held is not None:
                row = net.table, held.mark()
                counted = self._keyless.setdefault(row, [held, 0])
                counted[1] += times if line else -times
                (self._parted.add if counted[1] else self._parted.discard)(row)

    def differ(self) -> bool:
        """Whether any row differs between the two lines."""
        return bool(self._parted)

    def differing(self) -> list[RowChange]:
        """The rows that do: `before` as history has them, `after` on the other line."""
        found = []
        for row in self._parted:
            if row in self._rows:
                found.append(Net(row[0], row[1], *self._rows[row]))
            else:
                held, times = self._keyless[row]
                found += [Net(row[0], None, *((None, held) if times > 0 else (held, None)))] * abs(times)
        changes = map(RowChange.of, found)
        return sorted(changes, key=lambda change: (change.table, str(change.key), str(change.after)))


def _are_alike(one: HeldRow | None, other: HeldRow | None) -> bool:
    if one is None or other is None:
        return one is other
    then, now = one.fields(), other.fields()
    return all(
        reads_same(then[name], now[name]) or isinstance(then[name], ErasedValue) or isinstance(now[name], ErasedValue)
        for name in then.keys() & now.keys()
    )


def _made_up(each: InsertedAction, moment: datetime, identity: str) -> Entry:
    """The records that an inserted action would have, the same every time."""
    told = f"{identity} {each.after} {each.action} {sorted(each.arguments.items())!r}"
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    action_id = UUID(bytes=digest[:16], version=4)
    submitted = Record(
        each.after,
        action_id,
        "submitted",
        None,
        each.action,
        None,
        each.actor,
        str(action_id),
        None,
        None,
        moment,
        None,
        None,
        None,
        each.arguments,
        None,
        None,
        None,
        digest[16:].hex(),
        None,
        None,
        None,
        1,
    )
    outcome = submitted.replaced(kind="outcome", status="succeeded", started_at=moment, seed=None)
    return Entry(submitted, outcome)


def inserted_of(lines: Iterator[tuple[int, Any]], position: Callable[[str], int]) -> list[InsertedAction]:
    """Actions to insert, from JSON objects with `action`, `arguments`, `actor` and `after`. Raises ReplayError."""
    found = []
    for number, told in lines:
        if not isinstance(told, dict) or not isinstance(told.get("action"), str):
            raise ReplayError(f'line {number}: expected {{"action": NAME, "arguments": {{…}}, "after": POSITION}}')
        arguments = told.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ReplayError(f"line {number}: the arguments must be an object")
        found.append(
            InsertedAction(position(str(told.get("after", "end"))), told["action"], arguments, told.get("actor"))
        )
    return found
