"""Timeline: a replayed history that one can go to any point of. `state`, `diff`, `blame`, `bisect` and `fork` use it.

It is replayed once; its sandbox keeps every row change, and may be a file that the next command finds again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Engine, Table, func, select, text
from sqlalchemy.engine import URL

from actionbus.core import Application, Journal, Record
from actionbus.core.values.points import point_of
from actionbus.replay.changes import Logged, RowChange
from actionbus.replay.errors import ReplayError
from actionbus.replay.history import Entry, entry_of, outermost
from actionbus.replay.replayer import Replayer, Step
from actionbus.replay.sandbox import Prepare
from actionbus.replay.snapshots import Snapshot

Progress = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Blame:
    """Who last wrote a column."""

    column: str
    value: Any
    before: Any
    record: Record


class Timeline:
    """The history of a journal, replayed in `database`, which keeps what it was given from one time to the next."""

    def __init__(
        self,
        journal: Journal,
        application: Application,
        database: str | URL | Engine | None = None,
        *,
        start: Snapshot | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._use(Replayer(journal, application, database, start=start, prepare=prepare))

    @classmethod
    def of(cls, replayer: Replayer) -> Timeline:
        """The timeline of a replayer that logs."""
        made = cls.__new__(cls)
        made._use(replayer)
        return made

    def _use(self, replayer: Replayer) -> None:
        self.journal = replayer.journal
        self.replayer = replayer
        self.sandbox = replayer.sandbox

    def extend(self, upto: int | None = None, progress: Progress | None = None) -> None:
        """Replay what the sandbox has not seen yet, up to a position or to the journal's end."""
        if self.sandbox.head > self.journal.last():
            raise ReplayError(
                f"the sandbox holds history up to {self.sandbox.head}, the journal ends at {self.journal.last()}: it "
                "was replaced by an older one; remove the sandbox"
            )
        if upto is not None and upto <= self.sandbox.head:
            return
        for step in self.replayer.steps(upto):
            if progress:
                progress(step)

    def position(self, at: str) -> int:
        """What a user names as a point in history. Raises ReplayError."""
        return self.position_in(self.journal, at)

    @staticmethod
    def position_in(journal: Journal, at: str) -> int:
        """What a position, an ISO 8601 time, an action's id, `start` or `end` names. Raises ReplayError."""
        try:
            point = point_of(at)
        except ValueError as error:
            raise ReplayError(str(error)) from None
        if point is None:
            return journal.settled()
        if isinstance(point, datetime):
            return journal.last_before(point)
        return _of_action(journal, point) if isinstance(point, UUID) else point

    def go(self, position: int, progress: Progress | None = None) -> None:
        """Put the sandbox's tables into the state after a position."""
        if position > self.sandbox.head:
            self.extend(position, progress)
        position = min(position, self.sandbox.head)
        if self.replayer.start is not None and position < self.replayer.start.position:
            raise ReplayError(f"history is known from the snapshot at position {self.replayer.start.position} on only")
        self.sandbox.travel(position)

    def tables(self) -> list[Table]:
        """The business tables."""
        return self.sandbox.tables()

    def rows(self, table: str, where: str | None = None) -> Iterator[dict[str, Any]]:
        """A table's rows in the present state, by key. `where` is SQL."""
        logged = self.sandbox.log.find(table)
        statement = select(logged.table).order_by(*logged.keys)
        if where:
            statement = statement.where(text(where.replace(":", r"\:")))  # no names of parameters in it
        for row in self.sandbox.connection.execute(statement):
            yield logged.row(row)

    def count(self, table: str) -> int:
        """How many rows a table has in the present state."""
        logged = self.sandbox.log.find(table)
        return self.sandbox.connection.execute(select(func.count()).select_from(logged.table)).scalar_one()

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Columns and rows of a statement on the present state; what it writes is taken back."""
        with self.sandbox.aside():
            self.sandbox.log.pause()
            result = self.sandbox.connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
            return list(result.keys()), [tuple(row) for row in result]

    def diff(self, one: int, other: int) -> list[RowChange]:
        """The rows that differ between two positions: `before` is at the first, `after` at the other."""
        self.extend(max(one, other))
        low, high = sorted((one, other))
        found = list(self.sandbox.log.between(low, high))
        if one > other:
            found = [RowChange(c.position, c.table, c.key, c.after, c.before) for c in found]
        return sorted(found, key=lambda change: (change.table, str(change.key)))

    def versions(self, table: str, key: tuple[Any, ...], upto: int | None = None) -> list[tuple[RowChange, Record]]:
        """Every change of a row with the outcome that made it, oldest first."""
        changes = self.sandbox.log.of_row(table, key)
        found = []
        for change in changes:
            record = self.journal.at(change.position)
            if record is not None and (upto is None or change.position <= upto):
                found.append((change, record))
        return found

    def blame(self, table: str, key: tuple[Any, ...], upto: int | None = None) -> list[Blame]:
        """For each column of a row, who last changed it. Empty if no action ever wrote the row."""
        found: dict[str, Blame] = {}
        for change, record in self.versions(table, key, upto):
            for column, (before, after) in change.columns().items():
                found[column] = Blame(column, after, before, record)
        logged = self.sandbox.log.find(table)
        return [found[column.name] for column in logged.table.columns if column.name in found]

    def key(self, table: str, given: str) -> tuple[Any, ...]:
        """A key from text; the parts of a composite one are separated by commas. Raises ReplayError."""
        logged = self.sandbox.log.find(table)
        parts = given.split(",") if len(logged.keys) > 1 else [given]
        names = ", ".join(column.name for column in logged.keys)
        if len(parts) != len(logged.keys):
            raise ReplayError(f"the key of {table} has {len(logged.keys)} parts: {names}; {given!r} has {len(parts)}")
        try:
            return tuple(_typed(column, part) for column, part in zip(logged.keys, parts, strict=True))
        except ValueError as error:
            raise ReplayError(f"{given!r} is no key of {table} ({names}): {error}") from None

    def entry(self, action_id: UUID) -> Entry:
        """An action, or the one in whose transaction it ran. Raises ReplayError."""
        found = entry_of(self.journal, outermost(self.journal, action_id))
        if found is None:
            raise ReplayError(f"the journal has no outcome of an action {action_id}")
        return found

    def positions(self, after: int = 0, upto: int | None = None) -> list[int]:
        """The positions of the actions that were run, in order."""
        steps = self.sandbox.log.steps
        chosen = select(steps.c.position).where(steps.c.position > after).order_by(steps.c.position)
        if upto is not None:
            chosen = chosen.where(steps.c.position <= upto)
        return list(self.sandbox.connection.execute(chosen).scalars())

    def problems(self) -> dict[str, int]:
        """How many actions did not come out as recorded, by verdict."""
        steps = self.sandbox.log.steps
        counted = select(steps.c.problem, func.count()).where(steps.c.problem.is_not(None)).group_by(steps.c.problem)
        return {row[0]: row[1] for row in self.sandbox.connection.execute(counted)}

    def check(self, snapshot: Snapshot) -> list[RowChange]:
        """Where the replayed state differs from a snapshot: `before` is the replayed row, `after` the snapshot's.

        What differs was written outside the gateway, or by an action that no longer comes out as it did.
        """
        self.go(snapshot.position)
        invisible = [position for position, record in self._outcomes_upto(snapshot) if not snapshot.contains(record)]
        with self.sandbox.aside():
            if invisible:
                self.sandbox.log.undo(invisible)
            theirs: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
            for table, row in snapshot.rows():
                if table in self.sandbox.log.logged:
                    theirs.setdefault(table, {})[_key_of(self.sandbox.log.find(table), row)] = row
            found: list[RowChange] = []
            for name, logged in self.sandbox.log.logged.items():
                there = theirs.get(name, {})
                for row in self.rows(name):
                    key = _key_of(logged, row)
                    other = there.pop(key, None)
                    if other is None or not _same(row, other):
                        found.append(RowChange(snapshot.position, name, key, row, other))
                found += [RowChange(snapshot.position, name, key, None, row) for key, row in there.items()]
        return found

    def _outcomes_upto(self, snapshot: Snapshot) -> Iterator[tuple[int, Record]]:
        """The outcomes that may be missing in a snapshot: from its first missing position on."""
        first = min(snapshot.missing, default=snapshot.position)
        for record in self.journal.read(first - 1, upto=snapshot.position, kind="outcome", status="succeeded"):
            yield record.position, record

    def close(self, *, keep: bool = True) -> None:
        """Let go of the sandbox; see `Sandbox.close`."""
        self.replayer.close(keep=keep)

    def __enter__(self) -> Timeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is None)


def _of_action(journal: Journal, action_id: UUID) -> int:
    record = journal.outcome(outermost(journal, action_id))
    if record is None:
        raise ReplayError(f"the journal has no outcome of an action {action_id}")
    return record.position


def _key_of(logged: Logged, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_comparable(row[column.name]) for column in logged.keys)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    names = set(one) & set(other)
    return all(_comparable(one[name]) == _comparable(other[name]) for name in names)


def _comparable(value: Any) -> Any:
    """SQLite gives datetimes without their zone; they are read as UTC, as the snapshot's are."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return value


def _typed(column: Column[Any], part: str) -> Any:
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return part
    if kind is bool:
        return part.lower() in ("1", "true", "yes")
    if kind in (datetime, date):
        return kind.fromisoformat(part)
    return kind(part) if kind in (int, float, str, UUID, Decimal) else part


def sandbox_file(folder: Path, application: Application, identity: str, fingerprint: str) -> Path:
    """Where a timeline of this journal and this code is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{application.name}-{identity[:12]}-{fingerprint[:12]}.db"
