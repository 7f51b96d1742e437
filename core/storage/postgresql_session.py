"""A server's session under the gateway, on PostgreSQL: it is as it was after each action. Used by `storage.postgresql`.

What a handler leaves in its session is not looked for, which would cost more than the action: settings can be made by
a stored function, a trigger, a DO block, a cursor of another class. All of it is done away with instead, whatever made
it, by statements that ride on the message which commits (15 µs together). What the application itself set when it
connected is asked for once per connection, and set again by the same message.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import STATUS_READY
from psycopg2.sql import Composable

from actionbus.core.errors import Misuse
from actionbus.core.storage.postgresql_literals import literal

UNLOCK_ALL: Final = "SELECT pg_catalog.pg_advisory_unlock_all()"
_FOUND: Final = """
    SELECT 'setting', name, setting, context = 'user' OR pg_catalog.current_setting('is_superuser') = 'on'
    FROM pg_catalog.pg_settings WHERE source = 'session' AND context IN ('user', 'superuser')
    AND name !~ '^(transaction_|actionbus\\.|role$|session_authorization$|is_superuser$)'
    UNION ALL SELECT 'user', session_user::text, NULL, NULL
    UNION ALL SELECT 'lock', '', NULL, NULL FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()
    UNION ALL SELECT 'temporary', '', NULL, NULL FROM pg_catalog.pg_depend
    WHERE refclassid = 'pg_catalog.pg_namespace'::regclass AND refobjid = pg_catalog.pg_my_temp_schema()
    UNION ALL SELECT 'channel', '', NULL, NULL FROM pg_catalog.pg_listening_channels()
"""


class Session(NamedTuple):
    """How the application has left a session to the gateway, and so how the gateway leaves it."""

    settings: tuple[tuple[str, str], ...]
    user: str
    has_locks: bool
    has_temporary: bool
    listens: bool
    can_be_restored: bool
    """Whether the application may make its own settings again; if not, no connection serves twice."""

    @classmethod
    def of(cls, cursor: Any) -> Session:
        """As it is before the first action."""
        cursor.execute(_FOUND)
        found = cursor.fetchall()
        kinds = {row[0] for row in found}
        return cls(
            tuple((row[1], row[2]) for row in found if row[0] == "setting"),
            next(row[1] for row in found if row[0] == "user"),
            "lock" in kinds,
            "temporary" in kinds,
            "channel" in kinds,
            all(row[3] for row in found if row[0] == "setting"),
        )

    def is_restored(self, is_same_user: bool) -> bool:
        """Whether it is as the application left it, now that the action has ended; else it serves no other one."""
        return is_same_user and self.can_be_restored

    def ending(self, lock: int) -> str:
        """COMMIT, and what follows it: deferred triggers must still see what the handler has set for them."""
        own = ("UNLISTEN *" if not self.listens else "", "DISCARD TEMP" if not self.has_temporary else "")
        unlock = f"SELECT pg_catalog.pg_advisory_unlock({lock})" if self.has_locks else ""
        return "; ".join(["COMMIT", "RESET ALL", "CLOSE ALL", *filter(None, (*own, unlock)), "EXECUTE actionbus_end"])

    def restoring(self, cursor: Any) -> str:
        """What `actionbus_end` selects besides the position: whose session it is, settings, its lock given back."""
        user = f"session_user::text OPERATOR(pg_catalog.=) {literal(self.user, cursor)}"
        settings = (
            f"pg_catalog.set_config({literal(name, cursor)}, {literal(value, cursor)}, false)"
            for name, value in self.settings
        )
        unlock = () if self.has_locks else ("pg_catalog.pg_advisory_unlock_all()",)
        return ", ".join([user, *unlock, *settings])


class Watch:
    """Makes the cursors of a driver's connection, in place of the application's class, while an action runs on it."""

    def __init__(self, dbapi: Any, transaction: Any) -> None:
        self.transaction = transaction
        """The action's; None once that has ended, for cursors that are kept."""
        self._before = dbapi.cursor_factory

    def __call__(self, *args: Any, **kwargs: Any) -> WatchedCursor:
        return WatchedCursor(self, *args, **kwargs)

    def end(self, dbapi: Any) -> None:
        """Let the application's class make cursors again, and nobody use those that were made."""
        self.transaction = None
        dbapi.cursor_factory = self._before


class WatchedCursor(psycopg2.extensions.cursor):
    """What a driver's connection makes while an action runs on it: asks the action's transaction before it sends."""

    _is_declared = False

    def __init__(self, watch: Watch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def _ask(self, query: Any) -> str:
        """The statement. Raises Misuse for what the action may not say, or what outlived it."""
        transaction = self._watch.transaction
        if transaction is None:
            raise Misuse(_OUTLIVED)
        if not self.connection.autocommit or self.connection.status != STATUS_READY:
            raise Misuse(_DRIVERS_OWN)
        text = query.as_string(self) if isinstance(query, Composable) else query
        text = text if isinstance(text, str) else bytes(text).decode(errors="replace")
        transaction.allow(text)
        return text

    def _told(self) -> None:
        """`with connection:` makes psycopg2 begin a transaction of its own only together with a statement."""
        if self.connection.status != STATUS_READY:
            raise Misuse(_DRIVERS_OWN)

    def execute(self, query: Any, vars: Any = None) -> None:
        text = self._ask(query)
        if self.name is not None:
            self._declare(text, vars)
        else:
            super().execute(query, vars)
        self._told()

    def _declare(self, text: str, values: Any) -> None:
        """Open a server-side cursor. psycopg2 wants one to outlast the transaction that it does not know of, which the
        server refuses to one that locks rows; so it is told so, and the server is not."""
        if self._is_declared:
            raise psycopg2.ProgrammingError("can't call .execute() on named cursors more than once")
        scroll = "" if self.scrollable is None else "SCROLL " if self.scrollable else "NO SCROLL "
        opening = f"DECLARE {self._quoted_name()} {scroll}CURSOR WITHOUT HOLD FOR "
        if values is not None:
            opening = opening.replace("%", "%%")
        psycopg2.extensions.cursor(self.connection).execute(opening + text, values)
        self._is_declared = self.withhold = True

    def _quoted_name(self) -> str:
        return psycopg2.extensions.quote_ident(str(self.name), self)

    def close(self) -> None:
        """Close; the server's cursor too, which psycopg2 does for what it declared itself."""
        if self._is_declared and not self.closed and self._watch.transaction is not None:
            self._is_declared = False
            if self.connection.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_INTRANS:
                psycopg2.extensions.cursor(self.connection).execute(f"CLOSE {self._quoted_name()}")
        super().close()

    def executemany(self, query: Any, vars_list: Any) -> None:
        self._ask(query)
        super().executemany(query, vars_list)
        self._told()

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        self._ask("SELECT")
        return super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        self._ask(sql)
        super().copy_expert(sql, file, size)
        self._told()


_WATCH: Final = "actionbus.watch"
"""Where a connection's `info` holds its watch while an action runs on it."""
_DRIVERS_OWN: Final = (
    "the driver's own transactions were switched on inside of a handler (autocommit, or `with` on the driver's "
    "connection): an action's transaction is the gateway's to begin and end; use session.begin_nested() for a part "
    "that may fail"
)
_OUTLIVED: Final = (
    "a cursor of the driver's connection comes too late: the action that it was made in has ended, and the connection "
    "is others' now; make it where it is used"
)


def watch(dbapi: Any, info: dict[Any, Any], transaction: Any) -> None:
    """Let `transaction` be asked before each statement of the connection's cursors; None ends it."""
    before: Watch | None = info.get(_WATCH)
    if before is not None:  # noted as long as it is not over: an interruption may strike between any two of these
        before.end(dbapi)
        del info[_WATCH]
    if transaction is not None:
        made = info[_WATCH] = Watch(dbapi, transaction)
        dbapi.cursor_factory = made


def driver_settings(dbapi: Any) -> tuple[Any, ...]:
    """What a handler can change on the driver's connection: the server is not asked."""
    return (
        dbapi.isolation_level,
        dbapi.readonly,
        dbapi.deferrable,
        dbapi.encoding,
        dict(dbapi.string_types),
        dict(dbapi.binary_types),
    )
