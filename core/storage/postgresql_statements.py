"""What PostgreSQL's write path prepares, and a row as it is sent. Used by `storage.postgresql`."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

import psycopg2
from psycopg2 import errors as pg_errors

from actionbus.core.storage.positions import sequence
from actionbus.core.storage.postgresql_literals import arguments, literal
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.rows import Row
from actionbus.core.storage.table import FORMAT
from actionbus.core.values.record import Kind

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
_IMPLIED: Final = {"correlation_id": "$1::text", "format": str(FORMAT)}
"""What the records of most actions have, in which `_is_plain`: as SQL, where $1 is the action's id."""
_IMPLIED_OF_SUCCESS: Final = _IMPLIED | {"status": "'succeeded'"}
_NONE: Final = ("cause_id", "error", "calls")
"""What they have not."""


def _told(columns: Mapping[str, str], implied: Mapping[str, str]) -> Mapping[str, str]:
    return {name: type_ for name, type_ in columns.items() if name not in implied and name not in _NONE}


_COLUMNS: Final = {
    "submitted": SUBMITTED,
    "keyed": KEYED,
    "outcome": OUTCOME,
    "plain_submitted": _told(SUBMITTED, _IMPLIED),
    "plain_outcome": _told(OUTCOME, _IMPLIED_OF_SUCCESS),
}
_READ: Final = {kind: attrgetter(*columns) for kind, columns in _COLUMNS.items()}


def submitting(row: Row, lock: int, cursor: Any, *, durable: bool) -> str:
    """SQL that appends a submitted record, takes its action's lock, and tells where it went and in which role."""
    kind = "keyed" if row.idempotency_key is not None else "plain_submitted" if _is_plain(row) else "submitted"
    return f"EXECUTE actionbus_{_SYNCED[durable]}_{kind} ({arguments(_READ[kind](row), cursor)}, {lock})"


def appending(row: Row, cursor: Any, *, is_own: bool) -> str:
    """SQL that appends a record in an action's transaction: its own outcome, or what is nested in it."""
    if row.kind != "outcome":
        name, kind = "keyed", "keyed"
    elif is_own and _is_plain(row):
        name, kind = "plain", "plain_outcome"
    else:
        name, kind = "own" if is_own else "outcome", "outcome"
    return f"EXECUTE actionbus_append_{name} ({arguments(_READ[kind](row), cursor)})"


def _is_plain(row: Row) -> bool:
    """Whether it is of an action that only its caller caused, and tells of no failure and no call to the outside.

    Most are, and the server reads three or six values less then, at 3,600 instructions each.
    """
    return (
        row.cause_id is None
        and row.error is None
        and row.calls is None
        and row.status in (None, "succeeded")
        and row.format == FORMAT
        and row.correlation_id == str(row.action_id)
    )


def _inserting(home: str, kind: Kind, values: Mapping[str, str]) -> str:
    return f"INSERT INTO {home}journal (kind, {', '.join(values)}) VALUES ('{kind}', {', '.join(values.values())})"


def _numbered(kind: str) -> dict[str, str]:
    return {column: f"${number}" for number, column in enumerate(_COLUMNS[kind], 1)}


def _types(kind: str) -> str:
    return ", ".join(_COLUMNS[kind].values())


_SYNCED: Final = {True: "submit", False: "submit_unsynced"}
USED_KEY: Final = "(idempotency_key, action, coalesce(actor, '')) WHERE idempotency_key IS NOT NULL"
"""The index of keys: a conflict on any other must never be taken for a key that was used before."""


def statements(home: str, session: Session, cursor: Any) -> str:
    """PREPARE of each, for the journal in `home`, a name and a dot as SQL has it."""
    values = {kind: _numbered(kind) for kind in _COLUMNS}
    values["plain_submitted"] |= _IMPLIED
    values["plain_outcome"] |= _IMPLIED_OF_SUCCESS
    inserts = {kind: _inserting(home, "submitted", values[kind]) for kind in ("submitted", "plain_submitted", "keyed")}
    inserts["keyed"] += f" ON CONFLICT {USED_KEY} DO NOTHING"
    # A setting made by SET LOCAL tells whether the transaction is still the one that was begun: COMMIT ends it.
    named = "coalesce(pg_catalog.current_setting('actionbus.action', true), '')"
    is_same = f"({named} OPERATOR(pg_catalog.=) {{}})::int"
    action = "pg_catalog.replace($1::text, '-', '')"
    own = {
        kind: values[kind] | {"format": f"{values[kind]['format']} OPERATOR(pg_catalog./) {is_same.format(action)}"}
        for kind in ("outcome", "plain_outcome")
    }
    role = "pg_catalog.set_config('role', pg_catalog.current_setting('actionbus.role'), false)"
    enter = (
        "pg_catalog.pg_current_snapshot()::text, pg_catalog.set_config('actionbus.action', $1, true), "
        "pg_catalog.set_config('actionbus.role', pg_catalog.current_setting('role'), true)"
    )
    position = f"pg_catalog.currval({sequence(home)})"
    prepared = {
        **_submits(inserts),
        f"append_keyed ({_types('keyed')})": inserts["keyed"],
        f"append_outcome ({_types('outcome')})": _inserting(home, "outcome", values["outcome"]),
        f"append_own ({_types('outcome')})": _inserting(home, "outcome", own["outcome"]),
        f"append_plain ({_types('plain_outcome')})": _inserting(home, "outcome", own["plain_outcome"]),
        "still (text)": f"SELECT 1 OPERATOR(pg_catalog./) {is_same.format('$1')}, {role}",
        "enter (text)": f"SELECT {enter}",
        "end": f"SELECT {position}, {session.restoring(cursor)}",
    }
    return "; ".join(f"PREPARE actionbus_{name} AS {statement}" for name, statement in prepared.items())


def _submits(inserts: Mapping[str, str]) -> dict[str, str]:
    """What appends submitted records, waiting for the disk or not, for each kind of them."""
    made = {}
    for kind, insert in inserts.items():
        told = (
            f"{insert} RETURNING position, pg_catalog.pg_current_snapshot()::text, "
            f"pg_catalog.pg_try_advisory_lock(${len(_COLUMNS[kind]) + 1}), pg_catalog.current_setting('role')"
        )
        # Not waiting for this fsync is safe: the outcome's own comes later in the same log.
        unsynced = f"{told}, pg_catalog.set_config('synchronous_commit', 'off', true)"
        for durable, statement in ((True, told), (False, unsynced)):
            made[f"{_SYNCED[durable]}_{kind} ({_types(kind)}, bigint)"] = statement
    return made


def alone(row: Row, home: str, cursor: Any) -> str:
    """SQL that appends an outcome by itself; then which position has it, and whether it is ours."""
    values = {name: literal(each, cursor) for name, each in zip(OUTCOME, _READ["outcome"](row), strict=True)}
    return (
        f"{_inserting(home, 'outcome', values)} ON CONFLICT (action_id, kind) DO NOTHING; "
        f"SELECT position, xid = pg_current_xact_id()::text::bigint FROM {home}journal "
        f"WHERE action_id = {literal(row.action_id, cursor)} AND kind = 'outcome'"
    )


def is_there_already(error: psycopg2.Error) -> bool:
    """Whether the action has such a record, submitted or outcome."""
    return isinstance(error, pg_errors.UniqueViolation) and error.diag.constraint_name == "journal_one_outcome"
