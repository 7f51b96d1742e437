"""What PostgreSQL's write path prepares, and a row as it is sent. Used by `storage.postgresql`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import psycopg2
from psycopg2 import errors as pg_errors

from actionbus.core.storage.positions import sequence
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.rows import Row

SUBMITTED: Final = {
    "action_id": "uuid",
    "action": "text",
    "correlation_id": "text",
    "handler_version": "integer",
    "actor": "text",
    "cause_id": "uuid",
    "idempotency_key": "text",
    "release": "text",
    "context": "json",
    "arguments": "json",
    "seed": "text",
    "format": "smallint",
}
"""What a submitted record has, with its types; all else is NULL."""
OUTCOME: Final = {
    "action_id": "uuid",
    "status": "text",
    "action": "text",
    "correlation_id": "text",
    "handler_version": "integer",
    "actor": "text",
    "cause_id": "uuid",
    "started_at": "timestamptz",
    "release": "text",
    "arguments": "json",
    "result": "json",
    "error": "json",
    "calls": "json",
    "seen": "text",
    "duration_us": "bigint",
    "format": "smallint",
}
"""What an outcome has."""
_COLUMNS: Final = {"submitted": SUBMITTED, "outcome": OUTCOME}
_READ: Final = {kind: attrgetter(*columns) for kind, columns in _COLUMNS.items()}


def sent(kind: str) -> str:
    """What stands in SQL for the values of a row."""
    return ", ".join(["%s"] * len(_COLUMNS[kind]))


def _inserting(home: str, kind: str, values: Sequence[str]) -> str:
    return f"INSERT INTO {home}journal (kind, {', '.join(_COLUMNS[kind])}) VALUES ('{kind}', {', '.join(values)})"


def _numbered(kind: str) -> list[str]:
    return [f"${number}" for number, _ in enumerate(_COLUMNS[kind], 1)]


def _types(kind: str) -> str:
    return ", ".join(_COLUMNS[kind].values())


USED_KEY: Final = "(idempotency_key, action, coalesce(actor, '')) WHERE idempotency_key IS NOT NULL"
"""The index of keys: a conflict on any other must never be taken for a key that was used before."""


def statements(home: str, session: Session, cursor: Any) -> str:
    """PREPARE of each, for the journal in `home`, a name and a dot as SQL has it."""
    told = (
        "RETURNING position, pg_catalog.pg_current_snapshot()::text, "
        f"pg_catalog.pg_try_advisory_lock(${len(SUBMITTED) + 1})"
    )
    submitted, outcome = (_inserting(home, kind, _numbered(kind)) for kind in _COLUMNS)
    submit = f"{submitted} ON CONFLICT {USED_KEY} DO NOTHING {told}"
    # Not waiting for this fsync is safe: the outcome's own comes later in the same log.
    unsynced = f"{submit}, pg_catalog.set_config('synchronous_commit', 'off', true)"
    # A setting made by SET LOCAL tells whether the transaction is still the one that was begun: COMMIT ends it.
    is_same = "pg_catalog.current_setting('actionbus.action', true) OPERATOR(pg_catalog.=) $1"
    still = f"1 OPERATOR(pg_catalog./) ({is_same})::int"
    role = "pg_catalog.set_config('role', pg_catalog.current_setting('actionbus.role'), false)"
    position = f"pg_catalog.currval({sequence(home)})"
    return (
        f"PREPARE actionbus_submit ({_types('submitted')}, bigint) AS {submit}; "
        f"PREPARE actionbus_submit_unsynced ({_types('submitted')}, bigint) AS {unsynced}; "
        f"PREPARE actionbus_append_submitted ({_types('submitted')}) AS {submitted}; "
        f"PREPARE actionbus_append_outcome ({_types('outcome')}) AS {outcome}; "
        f"PREPARE actionbus_still (text) AS SELECT {still}, {role}; "
        f"PREPARE actionbus_end (bigint) AS SELECT {position}, {session.restoring(cursor)}"
    )


def alone(home: str) -> str:
    """An outcome by itself; then which position has it, and whether it is ours."""
    return (
        f"{_inserting(home, 'outcome', ['%s'] * len(OUTCOME))} ON CONFLICT (action_id, kind) DO NOTHING; "
        f"SELECT position, xid = pg_current_xact_id()::text::bigint FROM {home}journal "
        "WHERE action_id = %s AND kind = 'outcome'"
    )


def written(row: Row) -> list[Any]:
    """All values of a row, in the order of its fields, as the driver takes them."""
    return [_taken(each) for each in row]


def values_of(row: Row) -> list[Any]:
    """Those that a row of its kind has."""
    return [_taken(each) for each in _READ[row.kind](row)]


def _taken(value: Any) -> Any:
    return str(value) if type(value) in _AS_TEXT else value


def is_there_already(error: psycopg2.Error) -> bool:
    """Whether the action has such a record, submitted or outcome."""
    return isinstance(error, pg_errors.UniqueViolation) and error.diag.constraint_name == "journal_one_outcome"


_AS_TEXT: Final = frozenset({UUID, datetime})
