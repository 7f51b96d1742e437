"""What makes a carried journal as erasable as its original: keys of subjects, declarations, erasures.

Used by `replay.archives.transfer`, beside `history.carrying`. Without the tags of erasures, stand-ins in SQLite's
images would be bytes like any other; without the keys, encrypted records could be neither read nor erased.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, text

from actionbus.core.errors import HistoryError
from actionbus.core.history.carrying import older
from actionbus.core.history.opened import OpenedPosition
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.privacy_ddl import DECLARED, ERASURES, KEYS

_BATCH: Final = 500
_KEPT: Final = {
    KEYS: ("key_id", "subject", "secret"),
    DECLARED: ("table_name", "column_name", "subject_column", "keep"),
}
"""Columns that are carried, the same in both databases."""
_ERASURE: Final = {"sqlite": ("subject", "tag", "began_at"), "postgresql": ("subject", "xid", "began_at")}


def keys_of(backend: Backend, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    """The keys of these ids, as JSON has them; of those that were deleted, none."""
    columns = _KEPT[KEYS]
    sql = text(f"SELECT {', '.join(columns)} FROM {in_text(backend.prefix)}{KEYS} WHERE key_id IN :ids ORDER BY 1, 2")
    wanted = sorted(ids)
    with backend.connection() as connection, backend.placed(connection):
        for start in range(0, len(wanted), _BATCH):
            chosen = {"ids": wanted[start : start + _BATCH]}
            for row in connection.execute(sql.bindparams(bindparam("ids", expanding=True)), chosen):
                yield {"privacy": KEYS, **row._mapping}


def privacy_of(opened: OpenedPosition) -> Iterator[dict[str, Any]]:
    """What is personal, and all erasures that images were changed by, whatever their position."""
    images = opened.images
    for table, columns in ((DECLARED, _KEPT[DECLARED]), (ERASURES, _ERASURE[images.connection.dialect.name])):
        for row in images.rows_of(f"SELECT {', '.join(columns)} FROM {{home}}{table} ORDER BY 1, 2"):
            yield {"privacy": table, **dict(zip(columns, map(_plain, row), strict=True))}


def bring(backend: Backend, connection: Connection, told: Iterable[Mapping[str, Any]], *, history: bool) -> None:
    """Write what these two told into another database; without `history` the keys alone."""
    for each in told:
        table = each["privacy"]
        if table != ERASURES and table not in _KEPT:  # it is to be the name of a table in a statement
            raise HistoryError("what is to be imported says what is personal in a way that no export does")
        if not history and table != KEYS:
            continue
        row = {name: each[name] for name in _KEPT.get(table) or _ERASURE[connection.dialect.name]}
        if table == ERASURES:
            row |= _erasure(row, connection.dialect.name)
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        into = f"INSERT INTO {in_text(backend.prefix)}{table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        connection.execute(text(into), row)


def _erasure(row: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """One that has ended, in another database."""
    if dialect == "sqlite":
        return {"tag": bytes.fromhex(row["tag"]), "is_open": 0}
    return {"xid": older(row["xid"]), "began_at": datetime.fromisoformat(row["began_at"])}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else value
