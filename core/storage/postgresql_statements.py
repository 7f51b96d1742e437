"""What PostgreSQL's write path prepares, and a row as it is sent. Used by `storage.postgresql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import psycopg2
from psycopg2 import errors as pg_errors

from actionbus.core.storage.positions import sequence
from actionbus.core.storage.postgresql_literals import literal, literals
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.rows import Row

SUBMITTED: Final = {
    "action_id": "uuid",
    "action": "text",
    "correlation_id": "text",
    "handler_version": "integer",
    "actor": "text",
    "cause_id": "uuid",
    "release": "text",
    "context": "json",
    "arguments": "json",
    "seed": "text",
    "format": "smallint",
}
"""What a submitted record has, with its types; all else is NULL."""
KEYED: Final = SUBMITTED | {"idempotency_key": "text"}
"""What one with an idempotency key has."""
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
_COLUMNS: Final = {"submitted": SUBMITTED, "keyed": KEYED, "outcome": OUTCOME}
_READ: Final = {kind: attrgetter(*columns) for kind, columns in _COLUMNS.items()}


def submitting(row: Row, lock: int, cursor: Any, *, durable: bool) -> str:
    """SQL that appends a submitted record, takes its action's lock, and tells where it went."""
    kind = "submitted" if row.idempotency_key is None else "keyed"
    return f"EXECUTE actionbus_{_SYNCED[durable]}_{kind} ({literals(_READ[kind](row), cursor)}, {lock})"


def appending(row: Row, cursor: Any, *, is_own: bool) -> str:
    """SQL that appends a record in an action's transaction: its own outcome, or what is nested in it."""
    if row.kind == "outcome":
        name = "own" if is_own else "outcome"
        return f"EXECUTE actionbus_append_{name} ({literals(_READ['outcome'](row), cursor)})"
    return f"EXECUTE actionbus_append_keyed ({literals(_READ['keyed'](row), cursor)})"


def _inserting(home: str, kind: str, values: Sequence[str]) -> str:
    columns = ", ".join(_COLUMNS[kind])
    what = "outcome" if kind == "outcome" else "submitted"
    return f"INSERT INTO {home}journal (kind, {columns}) VALUES ('{what}', {', '.join(values)})"


def _numbered(kind: str) -> list[str]:
    return [f"${number}" for number, _ in enumerate(_COLUMNS[kind], 1)]


def _types(kind: str) -> str:
    return ", ".join(_COLUMNS[kind].values())


_SYNCED: Final = {True: "submit", False: "submit_unsynced"}
USED_KEY: Final = "(idempotency_key, action, coalesce(actor, '')) WHERE idempotency_key IS NOT NULL"
"""The index of keys: a conflict on any other must never be taken for a key that was used before."""


def statements(home: str, session: Session, cursor: Any) -> str:
    """PREPARE of each, for the journal in `home`, a name and a dot as SQL has it."""
    inserts = {kind: _inserting(home, kind, _numbered(kind)) for kind in _COLUMNS}
    inserts["keyed"] += f" ON CONFLICT {USED_KEY} DO NOTHING"
    # A setting made by SET LOCAL tells whether the transaction is still the one that was begun: COMMIT ends it.
    named = "coalesce(pg_catalog.current_setting('actionbus.action', true), '')"
    is_same = f"({named} OPERATOR(pg_catalog.=) {{}})::int"
    *values, format_ = _numbered("outcome")
    action = "pg_catalog.replace($1::text, '-', '')"
    own = _inserting(home, "outcome", [*values, f"{format_} OPERATOR(pg_catalog./) {is_same.format(action)}"])
    role = "pg_catalog.set_config('role', pg_catalog.current_setting('actionbus.role'), false)"
    position = f"pg_catalog.currval({sequence(home)})"
    return (
        f"{_submits(inserts)}; "
        f"PREPARE actionbus_append_keyed ({_types('keyed')}) AS {inserts['keyed']}; "
        f"PREPARE actionbus_append_outcome ({_types('outcome')}) AS {inserts['outcome']}; "
        f"PREPARE actionbus_append_own ({_types('outcome')}) AS {own}; "
        f"PREPARE actionbus_still (text) AS SELECT 1 OPERATOR(pg_catalog./) {is_same.format('$1')}, {role}; "
        f"PREPARE actionbus_end AS SELECT {position}, {session.restoring(cursor)}"
    )


def _submits(inserts: Mapping[str, str]) -> str:
    """PREPARE of what appends submitted records, waiting for the disk or not, with an idempotency key or without."""
    made = []
    for kind in ("submitted", "keyed"):
        told = (
            f"{inserts[kind]} RETURNING position, pg_catalog.pg_current_snapshot()::text, "
            f"pg_catalog.pg_try_advisory_lock(${len(_COLUMNS[kind]) + 1})"
        )
        # Not waiting for this fsync is safe: the outcome's own comes later in the same log.
        unsynced = f"{told}, pg_catalog.set_config('synchronous_commit', 'off', true)"
        for durable, statement in ((True, told), (False, unsynced)):
            made.append(f"PREPARE actionbus_{_SYNCED[durable]}_{kind} ({_types(kind)}, bigint) AS {statement}")
    return "; ".join(made)


def alone(row: Row, home: str, cursor: Any) -> str:
    """SQL that appends an outcome by itself; then which position has it, and whether it is ours."""
    values = [literal(each, cursor) for each in _READ["outcome"](row)]
    return (
        f"{_inserting(home, 'outcome', values)} ON CONFLICT (action_id, kind) DO NOTHING; "
        f"SELECT position, xid = pg_current_xact_id()::text::bigint FROM {home}journal "
        f"WHERE action_id = {literal(row.action_id, cursor)} AND kind = 'outcome'"
    )


def is_there_already(error: psycopg2.Error) -> bool:
    """Whether the action has such a record, submitted or outcome."""
    return isinstance(error, pg_errors.UniqueViolation) and error.diag.constraint_name == "journal_one_outcome"
