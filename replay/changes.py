"""RowLog: every row change in a sandbox, captured by triggers, raw SQL included. It shows changes and undoes them.

Beside each business table lies a log of it, with the row before and after each change, in the table's own types. So a
sandbox goes to any position with two statements per table, without running anything: back by putting the oldest
`before` of each key changed since, forward by putting the newest `after`. See docs/decisions/0014.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    func,
    select,
    text,
)

from actionbus.core.storage.drivers import driver_connection
from actionbus.replay.errors import ReplayError

ORIGINAL: Final = 0
"""The line of history as it was; a fork writes line 1."""
_OURS = "actionbus_"


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row changed by one action. `before` is None for an insert, `after` for a delete."""

    position: int
    table: str
    key: tuple[Any, ...]
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def operation(self) -> str:
        """`insert`, `update` or `delete`."""
        return "insert" if self.before is None else "delete" if self.after is None else "update"

    def columns(self) -> dict[str, tuple[Any, Any]]:
        """What changed: column → (before, after)."""
        before, after = self.before or {}, self.after or {}
        names = dict.fromkeys([*before, *after])
        return {name: (before.get(name), after.get(name)) for name in names
                if self.before is None or self.after is None or before.get(name) != after.get(name)}  # fmt: skip


class Logged:
    """A business table with its log."""

    def __init__(self, table: Table, number: int, metadata: MetaData) -> None:
        self.table = table
        self.keys = list(table.primary_key.columns) or list(table.columns)
        self.has_key = bool(table.primary_key.columns)
        self.stored = [column for column in table.columns if column.computed is None]
        name = f"{_OURS}log_{number}"
        self.log = Table(
            name,
            metadata,
            Column("seq", BigInteger, nullable=False),
            Column("position", BigInteger, nullable=False),
            Column("line", BigInteger, nullable=False),
            Column("op", String(1), nullable=False),
            *(Column(f"key_{column.name}", column.type) for column in self.keys),
            *(Column(f"old_{column.name}", column.type) for column in table.columns),
            *(Column(f"new_{column.name}", column.type) for column in table.columns),
            Index(f"{name}_position", "position"),
        )
        self._names = [column.name for column in table.columns]
        c = self.log.c
        self.at_position = select(self.log).where(c.position == bindparam("at"), c.line == bindparam("on"))
        if self.has_key:
            Index(f"{name}_key", *(self.log.c[f"key_{column.name}"] for column in self.keys))

    @property
    def name(self) -> str:
        """The table's name, as the journal has it."""
        return self.table.fullname

    def matching(self, key: Sequence[Any]) -> ColumnElement[bool]:
        """The condition for one row."""
        return and_(*(column == part for column, part in zip(self.keys, key, strict=True)))

    def row(self, row: Any) -> dict[str, Any]:
        """A row of the table by its columns' names."""
        return dict(zip(self._names, row, strict=True))

    def change(self, row: Any) -> RowChange:
        """A row of the log as a change. By place, not by name: a replay that shows every change reads many."""
        op, keys = row[3], 4 + len(self.keys)
        middle = keys + len(self._names)
        old = None if op == "i" else self.row(row[keys:middle])
        new = None if op == "d" else self.row(row[middle:])
        return RowChange(row[1], self.name, tuple(row[4:keys]), old, new)


class RowLog:
    """The logs of all business tables of a sandbox."""

    def __init__(self, connection: Connection, tables: Sequence[Table]) -> None:
        self._connection = connection
        self.metadata = MetaData()
        self.now = Table(
            f"{_OURS}now", self.metadata,
            Column("seq", BigInteger), Column("position", BigInteger), Column("line", BigInteger),
            Column("recording", BigInteger), Column("at", BigInteger), Column("head", BigInteger),
        )  # fmt: skip
        self.steps = Table(
            f"{_OURS}steps", self.metadata,
            Column("position", BigInteger, primary_key=True, autoincrement=False),
            Column("action_id", String(36)), Column("problem", String(20)),
        )  # fmt: skip
        self.logged = {table.fullname: Logged(table, n, self.metadata) for n, table in enumerate(tables)}
        self._postgresql = connection.dialect.name == "postgresql"
        self._quote = connection.dialect.identifier_preparer.quote
        mark = "%s" if self._postgresql else "?"
        self._at = f"UPDATE {_OURS}now SET position = {mark}, line = {mark}, recording = 1"
        self._step = f"INSERT INTO {_OURS}steps (position, action_id, problem) VALUES ({mark}, {mark}, {mark})"

    def create(self, *, triggers: bool = True) -> None:
        """Create the logs and the triggers that write to them."""
        self.metadata.create_all(self._connection)
        self._connection.execute(self.now.insert().values(seq=0, position=0, line=0, recording=0, at=0, head=0))
        for number, logged in enumerate(self.logged.values() if triggers else ()):
            make = self._postgresql_triggers if self._postgresql else self._sqlite_triggers
            for statement in make(logged, number):
                # By the driver itself, for which a percent sign in a name means nothing without parameters.
                driver_connection(self._connection).cursor().execute(statement)

    def begin(self, position: int, line: int = ORIGINAL) -> None:
        """What changes from now on belongs to this position."""
        driver_connection(self._connection).cursor().execute(self._at, (position, line))

    def note(self, position: int, action_id: str, problem: str | None) -> None:
        """An action was run; `problem` is its verdict if that is not `same`."""
        driver_connection(self._connection).cursor().execute(self._step, (position, action_id, problem))

    def pause(self) -> None:
        """Note no changes until `begin`."""
        driver_connection(self._connection).cursor().execute(f"UPDATE {_OURS}now SET recording = 0")

    def changes(self, positions: Collection[int], line: int = ORIGINAL) -> list[RowChange]:
        """The changes that belong to these positions, in order."""
        found: list[tuple[int, RowChange]] = []
        for logged in self.logged.values():
            for position in positions:
                rows = self._connection.execute(logged.at_position, {"at": position, "on": line})
                found += [(row[0], logged.change(row)) for row in rows]
        return [change for _, change in sorted(found, key=lambda pair: pair[0])]

    def of_row(self, table: str, key: Sequence[Any]) -> list[RowChange]:
        """All changes of one row, in order."""
        logged = self.find(table)
        by_key = and_(*(logged.log.c[f"key_{c.name}"] == part for c, part in zip(logged.keys, key, strict=True)))
        rows = self._connection.execute(
            select(logged.log).where(by_key, logged.log.c.line == ORIGINAL).order_by(logged.log.c.seq)
        )
        return [logged.change(row) for row in rows]

    def between(self, low: int, high: int) -> Iterator[RowChange]:
        """The net change of every row from the state at `low` to that at `high` (`low` < `high`), table by table."""
        for logged in self.logged.values():
            c = logged.log.c
            rows = self._connection.execute(
                select(logged.log).where(c.position > low, c.position <= high, c.line == ORIGINAL).order_by(c.seq)
            )
            net: dict[tuple[Any, ...], RowChange] = {}
            for row in rows:
                change = logged.change(row)
                first = net.get(change.key)
                before = first.before if first else change.before
                net[change.key] = RowChange(change.position, change.table, change.key, before, change.after)
            yield from (change for change in net.values() if change.before != change.after)

    def undo(self, positions: Collection[int]) -> None:
        """Take back what these actions wrote, newest first, in the current transaction."""
        self.pause()
        for change in reversed(self.changes(positions)):
            self.put(self.find(change.table), change.key, change.after, change.before)

    def overwrite(self, changes: Sequence[RowChange]) -> None:
        """Make rows what these changes left, whatever they are now, and note it under the current position."""
        for change in changes:
            logged = self.find(change.table)
            there = self._connection.execute(logged.table.select().where(logged.matching(change.key))).first()
            old = logged.row(there) if there else None
            if old is not None or change.after is not None:
                self.put(logged, change.key, old, change.after)

    def put(self, logged: Logged, key: Sequence[Any], old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        """Make one row what it is to be."""
        table = logged.table
        matching = logged.matching(key)
        stored = {column.name for column in logged.stored}
        values = {table.c[name]: value for name, value in (new or {}).items() if name in stored}
        if new is None:
            self._connection.execute(table.delete().where(matching))
        elif old is None:
            self._connection.execute(table.insert().values(values))
        else:
            self._connection.execute(table.update().where(matching).values(values))

    def travel(self, at: int, to: int) -> None:
        """From the state at one position to that at another, with triggers and foreign keys switched off."""
        if at == to:
            return
        low, high = min(at, to), max(at, to)
        for logged in self.logged.values():
            if not logged.has_key:
                self._refuse_changes(logged, low, high)
                continue
            for statement in self._travelling(logged, back=to < at):
                self._connection.execute(text(statement), {"low": low, "high": high})

    def _travelling(self, logged: Logged, *, back: bool) -> tuple[str, str]:
        quote, name = self._quote, self._name(logged.table)
        keys = ", ".join(quote(column.name) for column in logged.keys)
        log_keys = ", ".join(quote(f"key_{column.name}") for column in logged.keys)
        columns = ", ".join(quote(column.name) for column in logged.stored)
        part, end, gone = ("old", "min", "i") if back else ("new", "max", "d")
        values = ", ".join(quote(f"{part}_{column.name}") for column in logged.stored)
        log = quote(logged.log.name)
        wanted = "position > :low AND position <= :high AND line = 0"
        overriding = "OVERRIDING SYSTEM VALUE " if self._postgresql else ""
        return (
            f"DELETE FROM {name} WHERE ({keys}) IN (SELECT {log_keys} FROM {log} WHERE {wanted})",
            f"INSERT INTO {name} ({columns}) {overriding}SELECT {values} FROM {log} WHERE seq IN "
            f"(SELECT {end}(seq) FROM {log} WHERE {wanted} GROUP BY {log_keys}) AND op <> '{gone}'",
        )

    def _refuse_changes(self, logged: Logged, low: int, high: int) -> None:
        c = logged.log.c
        there = select(func.count()).select_from(logged.log).where(c.position > low, c.position <= high)
        if self._connection.execute(there).scalar():
            raise ReplayError(
                f"{logged.name} has no primary key, so a sandbox cannot take its rows back; give it one, or replay up "
                "to the position you want (`replay run --to`)"
            )

    def find(self, table: str) -> Logged:
        """A table by its name. Raises ReplayError."""
        try:
            return self.logged[table]
        except KeyError:
            raise ReplayError(f"there is no table {table!r}; there are: {', '.join(sorted(self.logged))}") from None

    def _name(self, table: Table) -> str:
        return self._connection.dialect.identifier_preparer.format_table(table)

    def _columns(self, logged: Logged) -> tuple[str, list[str], list[str]]:
        quote = self._quote
        names = [column.name for column in logged.table.columns]
        into = ["seq", "position", "line", "op", *(quote(f"key_{column.name}") for column in logged.keys)]
        return ", ".join(into), [quote(f"old_{name}") for name in names], [quote(f"new_{name}") for name in names]

    def _entry(self, logged: Logged, op: str, seq: str, prefix: str, suffix: str) -> str:
        """The INSERT into a table's log for one kind of change."""
        quote = self._quote
        into, old, new = self._columns(logged)
        side = "OLD" if op == "d" else "NEW"
        keys = [f"{side}.{quote(column.name)}" for column in logged.keys]
        names = [quote(column.name) for column in logged.table.columns]
        columns = [*(old if op != "i" else []), *(new if op != "d" else [])]
        values = [f"OLD.{name}" for name in names if op != "i"] + [f"NEW.{name}" for name in names if op != "d"]
        chosen = ", ".join([seq, f"{prefix}position", f"{prefix}line", f"'{op}'", *keys, *values])
        return f"INSERT INTO {quote(logged.log.name)} ({into}, {', '.join(columns)}) SELECT {chosen} {suffix};"

    def _sqlite_triggers(self, logged: Logged, number: int) -> list[str]:
        name, quote = self._name(logged.table), self._quote
        same = " AND ".join(f"OLD.{quote(c.name)} IS NEW.{quote(c.name)}" for c in logged.keys)
        recording = f"(SELECT recording FROM {_OURS}now) = 1"
        count = f"UPDATE {_OURS}now SET seq = seq + 1;"

        def body(*ops: str) -> str:
            return " ".join(f"{count} {self._entry(logged, op, 'seq', '', f'FROM {_OURS}now')}" for op in ops)

        kinds: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
            ("i", "INSERT", "", ("i",)),
            ("d", "DELETE", "", ("d",)),
            ("u", "UPDATE", f" AND {same}", ("u",)),
            ("k", "UPDATE", f" AND NOT ({same})", ("d", "i")),
        )
        return [
            f"CREATE TRIGGER {_OURS}{kind}_{number} AFTER {verb} ON {name} "
            f"WHEN {recording}{more} BEGIN {body(*ops)} END"
            for kind, verb, more, ops in kinds
        ]

    def _postgresql_triggers(self, logged: Logged, number: int) -> list[str]:
        name, quote = self._name(logged.table), self._quote
        same = " AND ".join(f"OLD.{quote(c.name)} IS NOT DISTINCT FROM NEW.{quote(c.name)}" for c in logged.keys)
        one = {op: self._entry(logged, op, f"nextval('{_OURS}seq')", "now.", "") for op in "iud"}
        sequence = [f"CREATE SEQUENCE {_OURS}seq"] if number == 0 else []
        return [
            *sequence,
            f"""CREATE FUNCTION {_OURS}log_{number}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE now record;
BEGIN
    SELECT * INTO now FROM {_OURS}now;
    IF now.recording = 0 THEN RETURN NULL; END IF;
    IF TG_OP = 'INSERT' THEN {one["i"]}
    ELSIF TG_OP = 'DELETE' THEN {one["d"]}
    ELSIF {same} THEN {one["u"]}
    ELSE {one["d"]} {one["i"]}
    END IF;
    RETURN NULL;
END$$""",
            f"CREATE TRIGGER {_OURS}log AFTER INSERT OR UPDATE OR DELETE ON {name} "
            f"FOR EACH ROW EXECUTE FUNCTION {_OURS}log_{number}()",
        ]
