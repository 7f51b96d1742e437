"""Keys of subjects, under which personal arguments are encrypted; asked by `gateway.sealing` and `core.journal`.

A subject may have several: who needs one and finds none makes one, and waits for nobody who may be doing the same.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, text

from actionbus.core.secrecy.personal import SubjectKey
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.privacy_ddl import KEYS
from actionbus.core.storage.rows import Statement


def inserting(key: SubjectKey, subject: str) -> Statement:
    """What keeps a key of a subject."""
    return Statement(
        f"INSERT INTO {{schema}}{KEYS} (key_id, subject, secret) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (key.key_id, subject, key.secret),
    )


def key_of(backend: Backend, subject: str, connection: Connection) -> SubjectKey | None:
    """A key of a subject, if there is one."""

    def read(used: Connection) -> SubjectKey | None:
        found = text(f"SELECT key_id, secret FROM {_table(backend)} WHERE subject = :subject ORDER BY made_at LIMIT 1")
        row = used.execute(found, {"subject": subject}).first()
        return SubjectKey(*row) if row else None

    return backend.read(read, connection)


def secrets_of(backend: Backend, ids: Collection[str], connection: Connection | None) -> dict[str, str | None]:
    """The keys of these ids; None for one that is gone."""

    def read(used: Connection) -> dict[str, str | None]:
        found = text(f"SELECT key_id, secret FROM {_table(backend)} WHERE key_id IN :ids")
        rows = used.execute(found.bindparams(bindparam("ids", expanding=True)), {"ids": sorted(ids)})
        return {**dict.fromkeys(ids), **{row.key_id: row.secret for row in rows}}

    return backend.read(read, connection)


def _table(backend: Backend) -> str:
    return f"{in_text(backend.prefix)}{KEYS}"
