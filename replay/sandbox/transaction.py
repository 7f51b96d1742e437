"""One action's transaction in a sandbox: a savepoint, so that what was run can be kept or taken back. See `sandbox`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Insert
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Session

from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.pooling import ACTING
from actionbus.replay.errors import LeavesSandbox
from actionbus.replay.sandbox import sqlalchemy_inside as inside
from actionbus.replay.sandbox.generated import GeneratedValues

_OURS = "actionbus_action"
_ATTACHES: Final = re.compile(r"\s*(ATTACH|VACUUM\s+INTO)\b", re.I)
"""SQLite opens another file with these."""


def keep_inside(connection: Connection) -> None:
    """No other file is attached, however the statement comes, and none made: SQLite opens files unseen."""
    if connection.dialect.name == "sqlite":
        attached = connection.dialect.loaded_dbapi.SQLITE_LIMIT_ATTACHED
        driver_connection(connection).setlimit(attached, 0)
        connection.exec_driver_sql("PRAGMA temp_store=MEMORY")


Meanwhile = Callable[[int, str, Any], None]
"""Called before each statement, with its number, counted from 1, and its parameters: there others commit."""


class SandboxTransaction(ActionTransaction):
    """Begun when made; ended by `end`.

    Its savepoint is set past SQLAlchemy, which would take longer over it than over the action's own statements. The
    session joins `point`, a savepoint that SQLAlchemy knows of and that is never really rolled back to.
    """

    def __init__(
        self,
        backend: Backend,
        connection: Connection,
        factory: Callable[..., Session],
        action_id: UUID,
        generated: GeneratedValues,
        point: str,
    ) -> None:
        self._generated = generated
        self._point = point
        self.meanwhile: Meanwhile | None = None
        self.statements: list[str] = []
        self.bound: list[Any] = []
        """The dates and times among its parameters."""
        self.made_on_update: list[Any] = []
        """Those that columns' own functions made, for rows that were updated."""
        super().__init__(backend, connection, "", factory, action_id)
        self.begin()

    def _start(self, isolation: str) -> None:
        self._dbapi.cursor().execute(f"SAVEPOINT {_OURS}")

    def _open(self) -> Session:
        return self._factory(bind=self._connection, join_transaction_mode="rollback_only")

    def imposed(
        self, statement: Insert, many: Sequence[Mapping[str, Any]]
    ) -> tuple[Insert, Sequence[Mapping[str, Any]]]:
        """The INSERT with the values that history generated."""
        return self._generated.impose(statement, many)

    def impose_defaults(self, context: DefaultExecutionContext) -> None:
        """Put recorded values in place of what columns' callables made; note what those made that an UPDATE calls."""
        self._generated.impose_defaults(context)
        for _, name in inside.made_of_updates(context):
            self.made_on_update += _moments([params.get(name) for params in context.compiled_parameters])

    def before_statement(self, statement: str, values: Any) -> str:
        """Note it, so that one can tell which tables were read.

        Where SQLAlchemy would roll back the transaction that the session joined, it rolls back this action alone.
        """
        if statement.startswith("ROLLBACK TO SAVEPOINT") and statement.endswith(self._point):
            return f"ROLLBACK TO SAVEPOINT {_OURS}"
        if _ATTACHES.match(statement):
            raise LeavesSandbox(f"the action tried {statement[:100]!r}; a sandbox has one database and writes no other")
        self.statements.append(statement)
        self.bound += _moments(values)
        if self.meanwhile is not None:
            self.meanwhile(len(self.statements), statement, values)
        return super().before_statement(statement, values)

    def rollback_savepoint(self, name: str) -> None:
        """SQLAlchemy rolls our own savepoint back where it would roll the transaction back in production."""
        if name == self._point:
            self.doomed = True
        super().rollback_savepoint(name)

    def end(self, *, keep: bool) -> None:
        """Keep what was written, or take it back."""
        self._connection.info.pop(ACTING, None)
        self.close()
        cursor = self._dbapi.cursor()
        if not keep:
            cursor.execute(f"ROLLBACK TO SAVEPOINT {_OURS}")
        cursor.execute(f"RELEASE SAVEPOINT {_OURS}")


def _moments(values: Any) -> Iterator[Any]:
    """What may be a date or time among parameters, however they are given."""
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        values = [values]
    for value in values:
        if isinstance(value, (Mapping, list, tuple)):
            yield from _moments(value)
        elif isinstance(value, (date, str)):
            yield value
