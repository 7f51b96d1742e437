"""What of recorded tables is personal, as the database keeps it: written by the bus, read by erasing and by status.

Once declared, a column stays so: it is in old images when no model has it any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, text

from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.privacy_ddl import DECLARED


class DeclaredTable(NamedTuple):
    """What was declared of one table, by the name that its history has."""

    personal: dict[str, str]
    """By column, the one that names the subject."""
    keep: str | None


def declare(
    backend: Backend, connection: Connection, declared: Iterable[TableDeclaration], *, is_whole: bool = True
) -> None:
    """Keep what an application declares; in the connection's transaction. Nothing is written where it is known.

    Without `is_whole` it adds to what was declared, and how long a table is kept stays as it is.
    """
    prefix = in_text(backend.prefix)
    kept = read_declared(connection, backend.prefix)
    for each in declared:
        name = _name(connection, each)
        known = kept.get(name, DeclaredTable({}, None))
        if each.keep is None and known.keep is not None and is_whole:
            gone = f"DELETE FROM {prefix}{DECLARED} WHERE table_name = :name AND column_name = ''"
            connection.execute(text(gone), {"name": name})
        elif each.keep not in (None, known.keep):
            _write(connection, prefix, name, "", None, each.keep)
        for column, subject in each.personal.items():
            if known.personal.get(column) != subject:
                _write(connection, prefix, name, column, subject, None)


def _write(connection: Connection, prefix: str, name: str, column: str, subject: str | None, keep: str | None) -> None:
    upsert = (
        f"INSERT INTO {prefix}{DECLARED} (table_name, column_name, subject_column, keep) "
        "VALUES (:name, :column, :subject, :keep) ON CONFLICT (table_name, column_name) "
        "DO UPDATE SET subject_column = excluded.subject_column, keep = excluded.keep"
    )
    connection.execute(text(upsert), {"name": name, "column": column, "subject": subject, "keep": keep})


def read_declared(connection: Connection, prefix: str) -> dict[str, DeclaredTable]:
    """What was declared, by table."""
    sql = f"SELECT table_name, column_name, subject_column, keep FROM {in_text(prefix)}{DECLARED} ORDER BY 1, 2"
    found: dict[str, DeclaredTable] = {}
    for name, column, subject, keep in connection.execute(text(sql)):
        known = found.get(name, DeclaredTable({}, None))
        found[name] = (
            known._replace(personal={**known.personal, column: subject}) if column else known._replace(keep=keep)
        )
    return found


def _name(connection: Connection, declared: TableDeclaration) -> str:
    """As shapes have it: with its schema on PostgreSQL, without on SQLite."""
    if connection.dialect.name == "sqlite":
        return declared.name
    if declared.schema:
        return f"{declared.schema}.{declared.name}"
    where = text(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass(quote_ident(:name))"
    )
    return f"{connection.execute(where, {'name': declared.name}).scalar() or 'public'}.{declared.name}"
