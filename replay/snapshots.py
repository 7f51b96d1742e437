"""Snapshot: a copy of the business tables that knows exactly which outcomes it contains. Replays start from one.

A file of JSON lines, compressed: first what it is, then a line per row. All tables are read in one REPEATABLE READ
transaction, together with its snapshot: an outcome is contained if and only if that snapshot shows its transaction.
"""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, Connection, Table, select, text

from actionbus.core import Bus, Record
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.values import payload, tagged
from actionbus.replay.errors import ReplayError
from actionbus.replay.overlap import is_visible
from actionbus.replay.tables import business_tables

if TYPE_CHECKING:
    from actionbus.replay.sandbox import Sandbox

FORMAT: Final = 1
_SUFFIX: Final = ".snapshot.gz"
_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot's file says of itself."""

    path: str
    journal: str
    """The journal's identity."""
    application: str
    dialect: str
    taken_at: str
    position: int
    """The last outcome that it may contain."""
    seen: str
    """The database's snapshot, by which one tells what it contains."""
    missing: tuple[int, ...]
    """Positions up to that one which were not there: in flight, or rolled back."""
    tables: dict[str, int]
    """How many rows of each."""

    @classmethod
    def create(cls, bus: Bus, folder: Path) -> Snapshot:
        """Copy the business tables of a bus into a new file."""
        folder.mkdir(parents=True, exist_ok=True)
        identity = bus.journal.identity()
        with bus.engine.connect() as connection:
            _begin(connection)
            seen, position = _seen(connection, bus)
            tables = business_tables(bus.application, connection)
            missing = _missing(connection, bus, position)
            handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
            os.close(handle)
            try:
                counts = {table.fullname: 0 for table in tables}
                with gzip.open(name, "wt", encoding="ascii", compresslevel=3) as file:
                    for table in tables:
                        for row in _rows(connection, table):
                            file.write(payload.dumps([table.fullname, row]) + "\n")
                            counts[table.fullname] += 1
                taken = datetime.now(UTC)
                path = folder / f"{taken:%Y%m%dT%H%M%S}-{position}{_SUFFIX}"
                made = cls(
                    str(path), identity, bus.application.name, connection.dialect.name, taken.isoformat(), position,
                    seen, missing, counts,
                )  # fmt: skip
                _put_ahead(made, Path(name), path)
            finally:
                Path(name).unlink(missing_ok=True)
            connection.rollback()
        return made

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """What a file says of itself. Raises ReplayError for one that is none."""
        try:
            with gzip.open(path, "rt", encoding="ascii") as file:
                told = payload.loads(file.readline())
            if told.pop("format") != FORMAT:
                raise ReplayError(f"{path} is a snapshot of another format; this version reads {FORMAT}")
            return cls(path=str(path), **{**told, "missing": tuple(told["missing"])})
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            raise ReplayError(f"{path} is no snapshot: {error}") from None

    @classmethod
    def all(cls, folder: Path, journal: str | None = None) -> list[Snapshot]:
        """The snapshots in a folder, of one journal if it is given, by position."""
        found = [cls.read(path) for path in folder.glob(f"*{_SUFFIX}")] if folder.is_dir() else []
        return sorted((each for each in found if journal in (None, each.journal)), key=lambda each: each.position)

    @classmethod
    def nearest(cls, folder: Path, journal: str, position: int) -> Snapshot | None:
        """The latest one at or before a position."""
        found = [each for each in cls.all(folder, journal) if each.position <= position]
        return found[-1] if found else None

    def contains(self, outcome: Record) -> bool:
        """Whether an outcome's writes are in it."""
        return outcome.position <= self.position and is_visible(outcome, self.seen)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Table and row, in an order in which they can be inserted."""
        with gzip.open(self.path, "rt", encoding="ascii") as file:
            file.readline()
            for line in file:
                table, row = payload.loads(line)
                yield table, {name: tagged.decode(value) for name, value in row.items()}

    def load(self, sandbox: Sandbox) -> None:
        """Put the rows into an empty sandbox."""
        tables = {table.fullname: table for table in sandbox.tables()}
        batch: list[dict[str, Any]] = []
        current: str | None = None
        sandbox.log.pause()
        for name, row in self.rows():
            if name not in tables:
                continue
            if batch and (name != current or len(batch) >= _BATCH):
                _insert(sandbox.connection, tables[current or name], batch)
                batch = []
            current = name
            batch.append(row)
        if batch and current:
            _insert(sandbox.connection, tables[current], batch)
        sandbox.at = sandbox.head = self.position
        sandbox.commit()


def encoded(row: Any, table: Table) -> dict[str, Any]:
    """A row as tagged JSON. Raises ReplayError for a value that has no such form."""
    return {column.name: _encoded(column, row._mapping[column]) for column in table.columns}


def _encoded(column: Column[Any], value: Any) -> Any:
    try:
        return tagged.encode(value)
    except tagged.Opaque as why:
        raise ReplayError(f"{column} holds {why}, which a snapshot cannot hold") from None


def _begin(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ")
        connection.execute(text("SET TRANSACTION READ ONLY"))
    else:
        driver_connection(connection).execute("BEGIN")


def _seen(connection: Connection, bus: Bus) -> tuple[str, int]:
    journal = bus.backend.journal_name
    position = connection.execute(
        text(f"SELECT coalesce(max(position), 0) FROM {journal} WHERE kind = 'outcome'")
    ).scalar_one()
    if connection.dialect.name == "sqlite":
        return str(position), position
    return connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one(), position


def _missing(connection: Connection, bus: Bus, position: int) -> tuple[int, ...]:
    """Positions above the last settled one that the snapshot does not show."""
    settled = min(bus.journal.settled(), position)
    there = connection.execute(
        text(f"SELECT position FROM {bus.backend.journal_name} WHERE position > :low AND position <= :high"),
        {"low": settled, "high": position},
    )
    known = set(there.scalars())
    return tuple(each for each in range(settled + 1, position) if each not in known)


def _rows(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    ordered = select(table).order_by(*(table.primary_key.columns or table.columns))
    with connection.execution_options(yield_per=_BATCH).execute(ordered) as result:
        for row in result:
            yield encoded(row, table)


def _put_ahead(snapshot: Snapshot, rows: Path, path: Path) -> None:
    """Write the first line, then the rows: a gzip file may consist of several members."""
    told = asdict(snapshot)
    del told["path"]
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as whole:
        whole.write(gzip.compress((payload.dumps({"format": FORMAT, **told}) + "\n").encode("ascii")))
        with rows.open("rb") as source:
            while chunk := source.read(1 << 20):
                whole.write(chunk)
        whole.flush()
        os.fsync(whole.fileno())
    Path(name).replace(path)


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    stored = {column.name for column in table.columns if column.computed is None}
    connection.execute(table.insert(), [{table.c[n].key: v for n, v in row.items() if n in stored} for row in rows])
