"""What PostgreSQL's write path prepares, and a row as it is sent. Used by `storage.postgresql`."""

from __future__ import annotations

from typing import Any, Final

from actionbus.core.storage.positions import sequence
from actionbus.core.storage.postgresql_session import Session
from actionbus.core.storage.rows import WRITTEN, Row
from actionbus.core.storage.table import PAYLOADS

_OTHER_TYPES: Final = {
    "action_id": "uuid", "cause_id": "uuid", "handler_version": "integer", "started_at": "timestamptz",
    "duration_us": "bigint", "format": "smallint", **dict.fromkeys(PAYLOADS, "json"),
}  # fmt: skip
_TYPES: Final = [_OTHER_TYPES.get(name, "text") for name in Row._fields]
"""The types of a Row's columns."""
_SIGNATURE: Final = ", ".join(_TYPES)
NUMBERED: Final = "(" + ", ".join(f"${number}" for number in range(1, len(_TYPES) + 1)) + ")"
VALUES: Final = "(" + ", ".join(["%s"] * len(_TYPES)) + ")"


def statements(home: str, session: Session, cursor: Any) -> str:
    """PREPARE of each, for the journal in `home`, a name and a dot as SQL has it."""
    insert = f"INSERT INTO {home}journal ({WRITTEN}) VALUES {NUMBERED}"
    told = (
        "RETURNING position, pg_catalog.pg_current_snapshot()::text, "
        f"pg_catalog.pg_try_advisory_lock(${len(_TYPES) + 1})"
    )
    # Of this index alone: a conflict on any other must never be taken for a key that was used before.
    used = "(idempotency_key, action, coalesce(actor, '')) WHERE idempotency_key IS NOT NULL"
    submit = f"{insert} ON CONFLICT {used} DO NOTHING {told}"
    # Not waiting for this fsync is safe: the outcome's own comes later in the same log.
    unsynced = f"{submit}, pg_catalog.set_config('synchronous_commit', 'off', true)"
    # A setting made by SET LOCAL tells whether the transaction is still the one that was begun: COMMIT ends it.
    is_same = "pg_catalog.current_setting('actionbus.action', true) OPERATOR(pg_catalog.=) $1"
    still = f"1 OPERATOR(pg_catalog./) ({is_same})::int"
    role = "pg_catalog.set_config('role', pg_catalog.current_setting('actionbus.role'), false)"
    position = f"pg_catalog.currval({sequence(home)})"
    return (
        f"PREPARE actionbus_submit ({_SIGNATURE}, bigint) AS {submit}; "
        f"PREPARE actionbus_submit_unsynced ({_SIGNATURE}, bigint) AS {unsynced}; "
        f"PREPARE actionbus_append ({_SIGNATURE}) AS {insert}; "
        f"PREPARE actionbus_still (text) AS SELECT {still}, {role}; "
        f"PREPARE actionbus_end (bigint) AS SELECT {position}, {session.restoring(cursor)}"
    )


def alone(home: str) -> str:
    """An outcome by itself; then which position has it, and whether it is ours."""
    return (
        f"INSERT INTO {home}journal ({WRITTEN}) VALUES {VALUES} ON CONFLICT (action_id, kind) DO NOTHING; "
        f"SELECT position, xid = pg_current_xact_id()::text::bigint FROM {home}journal "
        "WHERE action_id = %s AND kind = 'outcome'"
    )


def written(row: Row) -> list[Any]:
    """The values of a row, as the driver takes them."""
    values = row._asdict()
    values["action_id"] = str(row.action_id)
    if row.cause_id is not None:
        values["cause_id"] = str(row.cause_id)
    if row.started_at is not None:
        values["started_at"] = row.started_at.isoformat()
    return list(values.values())
