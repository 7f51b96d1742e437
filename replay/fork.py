"""What if: a second line of history, with actions skipped, edited or inserted. `actionbus replay fork` asks.

It begins just before the first changed action, and every later one is run again on the other line. For each row that
either line has written since, both values are kept; where no row differs any more and no change is left to come, the
lines have met, and what follows would be the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from actionbus.core import Record
from actionbus.core.storage.rows import Row
from actionbus.replay.changes import ORIGINAL, RowChange
from actionbus.replay.divergence import Difference
from actionbus.replay.errors import ReplayError
from actionbus.replay.history import Entry, entries
from actionbus.replay.replayer import why_not_replayable
from actionbus.replay.sandbox import Rerun
from actionbus.replay.timeline import Timeline

_LINE = 1
_Row = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Inserted:
    """An action that never was, to be run after a position."""

    after: int
    action: str
    arguments: dict[str, Any]
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An action that ends differently now. `then` is None for an inserted one, `now` for a skipped one."""

    position: int
    action_id: UUID
    action: str
    then: Record | None
    now: Row | None
    differences: tuple[Difference, ...] = ()


@dataclass(slots=True)
class Fork:
    """What came of it."""

    ended: list[Ended] = field(default_factory=list)
    rows: list[RowChange] = field(default_factory=list)
    """Row by row: `before` as history has it in the end, `after` on the other line."""
    begun_at: int = 0
    met_at: int | None = None
    """Where the two lines became equal again for good."""
    run: int = 0


class Forking:
    """One fork of a timeline. `overrides` are fakes for outside dependencies, whose calls are made."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        skip: Sequence[UUID] = (),
        edit: Mapping[UUID, Mapping[str, Any]] | None = None,
        insert: Sequence[Inserted] = (),
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._timeline = timeline
        self._sandbox = timeline.sandbox
        self._skip = {timeline.entry(each).action_id for each in skip}
        self._edit = {timeline.entry(each).action_id: dict(told) for each, told in (edit or {}).items()}
        self._insert = sorted(insert, key=lambda each: each.after)
        self._overrides = dict(overrides or {})
        self._lines: dict[_Row, list[dict[str, Any] | None]] = {}
        self._check_edits()

    def _check_edits(self) -> None:
        for action_id, told in self._edit.items():
            name = self._timeline.entry(action_id).submitted.action
            known = self._sandbox.bus.registry.get(name).handler.arguments
            if unknown := sorted(set(told) - set(known)):
                raise ReplayError(f"{name} has no argument {unknown[0]!r}; there are: {', '.join(known)}")

    def run(self, progress: Callable[[Entry], None] | None = None) -> Fork:
        """Run the other line, tell what differs, and take everything back."""
        fork = Fork()
        changed = [self._timeline.entry(each).position for each in (*self._skip, *self._edit)]
        first = min([*(position - 1 for position in changed), *(each.after for each in self._insert)], default=None)
        if first is None and not self._overrides:
            return fork
        self._timeline.extend()
        first = first or 0
        fork.begun_at = first
        self._timeline.go(first)
        last_change = max([*changed, *(each.after for each in self._insert), *([1 << 62] if self._overrides else [])])
        with self._sandbox.held():
            self._follow(fork, first, last_change, progress)
        fork.rows = sorted(
            (
                RowChange(0, table, key, one, other)
                for (table, key), (one, other) in self._lines.items()
                if one != other
            ),
            key=lambda change: (change.table, str(change.key)),
        )
        return fork

    def _follow(self, fork: Fork, first: int, last_change: int, progress: Callable[[Entry], None] | None) -> None:
        pending = list(self._insert)
        for entry in entries(self._timeline.journal, first):
            while pending and pending[0].after < entry.position:
                self._run_inserted(fork, pending.pop(0))
            self._take(entry, fork)
            if progress:
                progress(entry)
            if entry.position >= last_change and not pending and not self._differs():
                fork.met_at = entry.position
                return
        for each in pending:
            self._run_inserted(fork, each)

    def _differs(self) -> bool:
        return any(one != other for one, other in self._lines.values())

    def _take(self, entry: Entry, fork: Fork) -> None:
        """One action of history, on the other line."""
        self._note(ORIGINAL, self._sandbox.changes(entry.position))
        if entry.action_id in self._skip:
            fork.ended.append(Ended(entry.position, entry.action_id, entry.outcome.action, entry.outcome, None))
            return
        if why_not_replayable(entry) is not None:
            return
        rerun = self._run(entry, self._edit.get(entry.action_id))
        fork.run += 1
        self._note(_LINE, self._sandbox.changes(entry.position, _LINE) if rerun.succeeded else [])
        differences = self._timeline.replayer.compare(entry, rerun)
        if differences and not (rerun.stood_in and _only_digests(differences)) and not rerun.unplayable:
            fork.ended.append(
                Ended(entry.position, entry.action_id, entry.outcome.action, entry.outcome, rerun.outcome,
                      tuple(differences))
            )  # fmt: skip

    def _run(self, entry: Entry, edits: Mapping[str, Any] | None) -> Rerun:
        arguments = {**entry.submitted.arguments, **edits} if edits else None
        rerun = self._sandbox.run(entry, arguments=arguments, line=_LINE, overrides=self._overrides)
        self._sandbox.keep(rerun)
        return rerun

    def _run_inserted(self, fork: Fork, each: Inserted) -> None:
        entry = _made_up(each, self._moment(each.after), self._timeline.journal.identity())
        rerun = self._run(entry, None)
        fork.run += 1
        self._note(_LINE, self._sandbox.changes(each.after, _LINE) if rerun.succeeded else [])
        fork.ended.append(Ended(each.after, entry.action_id, each.action, None, rerun.outcome))

    def _moment(self, after: int) -> datetime:
        record = self._timeline.journal.at(after) or next(self._timeline.journal.read(limit=1), None)
        if record is None:
            raise ReplayError("the journal is empty; there is nothing to insert an action into")
        return record.recorded_at

    def _note(self, line: int, changes: Sequence[RowChange]) -> None:
        """A row's first change on either line tells what it was on both before it."""
        for change in changes:
            row = (change.table, change.key)
            values = self._lines.setdefault(row, [change.before, change.before])
            values[line] = change.after


def _only_digests(differences: Sequence[Difference]) -> bool:
    return all(each.field.endswith(".values") for each in differences)


def _made_up(each: Inserted, moment: datetime, identity: str) -> Entry:
    """The records that an inserted action would have, the same every time."""
    told = f"{identity} {each.after} {each.action} {sorted(each.arguments.items())!r}"
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    action_id = UUID(bytes=digest[:16], version=4)
    submitted = Record(
        each.after, action_id, "submitted", None, each.action, None, each.actor, str(action_id), None, None, moment,
        None, None, None, each.arguments, None, None, None, None, digest[16:].hex(), None, None, None, 1,
    )  # fmt: skip
    outcome = submitted._replace(kind="outcome", status="succeeded", started_at=moment, seed=None)
    return Entry(submitted, outcome)


def inserted_of(lines: Iterator[tuple[int, Any]], position: Callable[[str], int]) -> list[Inserted]:
    """Actions to insert, from JSON objects with `action`, `arguments`, `actor` and `after`. Raises ReplayError."""
    found = []
    for number, told in lines:
        if not isinstance(told, dict) or not isinstance(told.get("action"), str):
            raise ReplayError(f'line {number}: expected {{"action": NAME, "arguments": {{…}}, "after": POSITION}}')
        arguments = told.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ReplayError(f"line {number}: the arguments must be an object")
        found.append(Inserted(position(str(told.get("after", "end"))), told["action"], arguments, told.get("actor")))
    return found
