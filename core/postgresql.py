"""The journal on PostgreSQL 14 and later through psycopg2: the write path's SQL, locks and catalogue.

The gateway's connections are in autocommit mode and transactions are begun and ended in SQL, which saves round trips:
BEGIN goes ahead of the first statement, the outcome's INSERT, COMMIT and the release of the action's lock are one.

The lock of a running action is a session-level advisory lock on its id, taken in the RETURNING of its submitted
record, hence before that is visible to anybody, and given back after COMMIT. A backend that dies gives it back too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import extensions
from sqlalchemy import Connection, Engine, text

from core.backend import ATTEMPTS, WRITTEN, Appended, Backend, Row, Statement, driver_connection, pause
from core.determinism import lock_key
from core.errors import CommitConflict, JournalUnavailable
from core.rights import READ_ONLY, STANDBY, see_that_it_may

_TYPES: Final = (
    "uuid", "text", "text", "text", "integer", "text", "text", "uuid", "text", "timestamptz", "text", "json", "json",
    "json", "json", "json", "json", "text", "text", "bigint",
)  # fmt: skip
"""The types of a Row's columns."""
_SIGNATURE: Final = ", ".join(_TYPES)
_NUMBERED: Final = "(" + ", ".join(f"${number}" for number in range(1, len(_TYPES) + 1)) + ")"
_VALUES: Final = "(" + ", ".join(["%s"] * len(_TYPES)) + ")"
_SUBMIT: Final = f"EXECUTE actionbus_submit {_VALUES[:-1]}, %s)"
_SUBMIT_UNSYNCED: Final = f"EXECUTE actionbus_submit_unsynced {_VALUES[:-1]}, %s)"
_APPEND: Final = f"EXECUTE actionbus_append {_VALUES}"
_END: Final = "; COMMIT; EXECUTE actionbus_end (%s)"
_PREPARED: Final = "actionbus.prepared"
_TRANSIENT: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected."""

_SIDE_EFFECTS: Final = text("""
    SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger
    WHERE tgrelid = to_regclass(:name) AND NOT tgisinternal AND tgenabled <> 'D'
    AND NOT starts_with(tgname, 'actionbus_')
    UNION ALL
    SELECT 'cascade from ' || confrelid::regclass || ' to ' || conrelid::regclass FROM pg_constraint
    WHERE confrelid = to_regclass(:name) AND contype = 'f'
    AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
    ORDER BY 1
""")


class PostgreSQL(Backend):
    """PostgreSQL's answers."""

    def __init__(self, engine: Engine, schema: str | None, *, own_engine: bool) -> None:
        super().__init__(engine, schema, own_engine=own_engine)
        self._may_write = False
        insert = f"INSERT INTO {self.journal_name} ({WRITTEN}) VALUES "
        sequence = f'"{schema}".journal_position_seq' if schema else "journal_position_seq"
        told = f"RETURNING position, pg_current_snapshot()::text, pg_try_advisory_lock(${len(_TYPES) + 1})"
        submit = f"{insert}{_NUMBERED} ON CONFLICT DO NOTHING {told}"
        # Not waiting for this fsync is safe: the outcome's own comes later in the same log.
        unsynced = f"{submit}, set_config('synchronous_commit', 'off', true)"
        self._prepare = (
            f"PREPARE actionbus_submit ({_SIGNATURE}, bigint) AS {submit}; "
            f"PREPARE actionbus_submit_unsynced ({_SIGNATURE}, bigint) AS {unsynced}; "
            f"PREPARE actionbus_append ({_SIGNATURE}) AS {insert}{_NUMBERED}; "
            f"PREPARE actionbus_end (bigint) AS SELECT currval('{sequence}'), pg_advisory_unlock($1)"
        )
        self._alone = (
            f"{insert}{_VALUES} ON CONFLICT (action_id, kind) DO NOTHING; "
            f"SELECT position, xid = pg_current_xact_id()::text::bigint FROM {self.journal_name} "
            "WHERE action_id = %s AND kind = 'outcome'"
        )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with self.gateway.connect() as connection:
            self.prepare_driver(driver_connection(connection))
            try:
                yield connection
            finally:
                if not connection.invalidated and not driver_connection(connection).closed:
                    driver_connection(connection).autocommit = False

    def prepare_driver(self, dbapi: Any) -> None:
        dbapi.autocommit = True

    def append_submitted(self, connection: Connection, row: Row, *, durable: bool) -> Appended | None:
        for number in range(1, ATTEMPTS + 1):
            try:
                return self._submit(connection, row, durable)
            except psycopg2.Error as error:
                if isinstance(error, pg_errors.ReadOnlySqlTransaction):
                    raise JournalUnavailable(READ_ONLY) from error
                if not self.is_transient(error):
                    raise
                self.release(connection, row.action_id)  # it may have been taken before the statement failed
                if number == ATTEMPTS:
                    raise
            pause(number)
        raise AssertionError("the last attempt either returns or raises")

    def _submit(self, connection: Connection, row: Row, durable: bool) -> Appended | None:
        cursor = driver_connection(connection).cursor()
        statement = _SUBMIT if durable else _SUBMIT_UNSYNCED
        values = (*_written(row), lock_key(row.action_id))
        if connection.info.get(_PREPARED) != self.journal_name:  # new, or prepared by a bus with another schema
            self._prepare_statements(connection)
        try:
            cursor.execute(statement, values)
        except pg_errors.InvalidSqlStatementName:  # somebody discarded what the session had prepared
            self._prepare_statements(connection)
            cursor.execute(statement, values)
        told = cursor.fetchone()
        cursor.close()
        return Appended(told[0], told[1]) if told else None

    def _prepare_statements(self, connection: Connection) -> None:
        cursor = driver_connection(connection).cursor()
        if not self._may_write:
            see_that_it_may(cursor, self.schema, self.uses)
            self._may_write = True
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'actionbus\\_%'")
        there = [name for (name,) in cursor.fetchall()]
        cursor.execute("; ".join([*(f"DEALLOCATE {name}" for name in there), self._prepare]))
        connection.info[_PREPARED] = self.journal_name

    def begin(self, connection: Connection, isolation: str) -> str:
        return f"BEGIN ISOLATION LEVEL {isolation}; "

    def seen(self, connection: Connection) -> str | None:
        return str(connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one())

    def finish(
        self, connection: Connection, begin: str, rows: Sequence[Row], action_id: UUID, also: Sequence[Statement] = ()
    ) -> int:
        cursor = driver_connection(connection).cursor()
        values = [value for each in also for value in each.values]
        values += [value for row in rows for value in _written(row)]
        statement = begin + "; ".join([*map(_placed, also), *[_APPEND] * len(rows)]) + _END
        try:
            cursor.execute(statement, (*values, lock_key(action_id)))
        except pg_errors.UniqueViolation as error:
            if error.diag.constraint_name == "journal_one_outcome":
                raise CommitConflict("the action has an outcome already") from error
            raise
        position: int = cursor.fetchone()[0]
        cursor.close()
        return position

    def rollback(self, connection: Connection) -> None:
        driver_connection(connection).cursor().execute("ROLLBACK")

    def append_alone(self, connection: Connection, row: Row, also: Sequence[Statement] = ()) -> int | None:
        return self.write(lambda connection: self._append_alone(connection, row, also), connection)

    def _append_alone(self, connection: Connection, row: Row, also: Sequence[Statement]) -> int | None:
        cursor = driver_connection(connection).cursor()
        values = [value for each in also for value in each.values]
        # Several statements sent at once are one transaction.
        statement = "; ".join([*map(_placed, also), self._alone])
        cursor.execute(statement, (*values, *_written(row), str(row.action_id)))
        position, ours = cursor.fetchone()
        self.release(connection, row.action_id)
        return position if ours else None

    def run_alone(self, connection: Connection, statement: Statement) -> None:
        cursor = driver_connection(connection).cursor()
        self.write(lambda _: cursor.execute(_placed(statement), statement.values), connection)

    def written_id(self, action_id: UUID) -> str:
        return str(action_id)

    def claim(self, connection: Connection, action_id: UUID) -> bool:
        # Unlike a new action, one that is claimed has no submitted record to append, which would find out.
        self._prepare_statements(connection)
        cursor = driver_connection(connection).cursor()
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (lock_key(action_id),))
        return bool(cursor.fetchone()[0])

    def release(self, connection: Connection, action_id: UUID) -> None:
        # Asking first avoids the server's warning where another connection held the lock.
        driver_connection(connection).cursor().execute(
            "SELECT pg_advisory_unlock(%s) WHERE EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' "
            "AND pid = pg_backend_pid() AND (classid::bigint << 32 | objid::bigint) = %s)",
            (lock_key(action_id), lock_key(action_id)),
        )

    def explain(self, error: Exception, connection: Connection) -> None:
        told = getattr(error, "orig", None) or error
        if not isinstance(told, psycopg2.Error) or connection.invalidated or self.in_transaction(connection):
            return
        with driver_connection(connection).cursor() as cursor:
            if isinstance(told, pg_errors.ObjectNotInPrerequisiteState):
                cursor.execute("SELECT pg_is_in_recovery()")
                if cursor.fetchone()[0]:
                    raise JournalUnavailable(STANDBY) from error
            if isinstance(told, (pg_errors.InsufficientPrivilege, pg_errors.UndefinedTable)):
                see_that_it_may(cursor, self.schema, {"read"})

    def in_transaction(self, connection: Connection) -> bool:
        status: int = driver_connection(connection).get_transaction_status()
        return status != extensions.TRANSACTION_STATUS_IDLE

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, psycopg2.Error) and error.pgcode in _TRANSIENT

    def find_side_effects(self, connection: Connection, table: str) -> list[str]:
        quoted = ".".join(f'"{part}"' for part in table.split("."))
        return list(connection.execute(_SIDE_EFFECTS, {"name": quoted}).scalars())


def _placed(statement: Statement) -> str:
    return statement.sql.replace("?", "%s")


def _written(row: Row) -> list[Any]:
    values: list[Any] = list(row)
    values[0] = str(row.action_id)
    if row.cause_id is not None:
        values[7] = str(row.cause_id)
    if row.started_at is not None:
        values[9] = row.started_at.isoformat()
    return values
