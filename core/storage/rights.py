"""Rights on PostgreSQL: what a role needs to write the journal or to read it, and which GRANT is missing.

Asked by `storage.postgresql` before a process writes its first record, and when the server has refused to be read.
docs/rights.md says the same as SQL.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.archive_ddl import ARCHIVED_KEYS, ARCHIVES

READ_ONLY: Final = (
    "the database refuses writes: default_transaction_read_only is on for this role, database or server, or the server "
    "is a standby; an application needs ALTER ROLE … SET default_transaction_read_only = off, or another server"
)
STANDBY: Final = "this is a standby server, where nobody can tell which records may still appear; read from the primary"
_JOURNAL: Final = "journal"
RUNS: Final = "actionbus_runs"
QUEUE_TABLES: Final = ("actionbus_queues", "actionbus_unique", "actionbus_ticks", "actionbus_dead_letters")
_ALL: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
KEYS: Final = "actionbus_subject_keys"
MARKED: Final = ("actionbus_marks", "actionbus_totals", "actionbus_unfinished")
"""What is known of the journal up to some position, for who counts or recovers."""
_TABLES: Final = {
    "append": (
        (_JOURNAL, "SELECT"),
        (_JOURNAL, "INSERT"),
        (RUNS, "SELECT"),
        (ARCHIVES, "SELECT"),
        (ARCHIVED_KEYS, "SELECT"),
    ),
    "queue": tuple((table, each) for table in (RUNS, *QUEUE_TABLES) for each in _ALL),
    "queues": tuple((table, "SELECT") for table in (RUNS, *QUEUE_TABLES)),
    "read": ((_JOURNAL, "SELECT"), (ARCHIVES, "SELECT")),
    "personal": ((KEYS, "SELECT"), (KEYS, "INSERT")),
    "open": ((KEYS, "SELECT"),),
    "marks": tuple((name, "SELECT") for name in MARKED),
}
"""By use: a table and what must be granted on it. Recovery looks into the runs, hence appending reads them.
`personal` is of an application with personal arguments, `open` of who reads such, `marks` of who counts or recovers."""
_SEQUENCES: Final = {"append": (("journal_position_seq", "USAGE"), ("actionbus_images_image_seq", "SELECT"))}
_FUNCTIONS: Final = {"read": ("pg_current_wal_insert_lsn", "pg_current_wal_flush_lsn", "pg_logical_emit_message")}
"""Everybody may call these, unless somebody took that away."""

# Looked for in the catalogue, since a name in a schema that may not be used cannot be resolved.
_WHERE: Final = """
    SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = 'journal' AND c.relkind IN ('r', 'p') AND (%(schema)s IS NULL OR n.nspname = %(schema)s)
    ORDER BY c.oid = to_regclass(CASE WHEN %(schema)s IS NULL THEN 'journal' END) DESC NULLS LAST,
        n.nspname = 'public' DESC LIMIT 1
"""
_MISSING: Final = """
    SELECT format('GRANT %%s ON %%s %%s TO %%I', privilege, kind, c.oid::regclass, current_user)
    FROM unnest(%(names)s, %(kinds)s, %(privileges)s) AS needed (name, kind, privilege)
    JOIN pg_class c ON c.relname = name AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(where)s)
    WHERE NOT CASE kind WHEN 'TABLE' THEN has_table_privilege(c.oid, privilege)
        ELSE has_sequence_privilege(c.oid, privilege) END
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', p.oid::regprocedure, current_user) FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%(functions)s)
    AND NOT has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY 1
"""


def missing(cursor: Any, schema: str | None, uses: Collection[str]) -> list[str]:
    """The GRANTs that the role of a driver's cursor lacks; none where the journal is not there at all."""
    cursor.execute(_WHERE, {"schema": schema})
    found = cursor.fetchone()
    if found is None:
        return []
    where, usable = found
    if not usable:
        cursor.execute("SELECT format('GRANT USAGE ON SCHEMA %%I TO %%I', %s, current_user)", (where,))
        return [grant for (grant,) in cursor.fetchall()]
    needed = [(name, "TABLE", privilege) for use in uses for name, privilege in _TABLES.get(use, ())]
    needed += [(name, "SEQUENCE", privilege) for use in uses for name, privilege in _SEQUENCES.get(use, ())]
    names, kinds, privileges = (list(each) for each in zip(*sorted(needed), strict=True))
    functions = [name for use in uses for name in _FUNCTIONS.get(use, ())]
    given = {"names": names, "kinds": kinds, "privileges": privileges, "where": where, "functions": functions}
    cursor.execute(_MISSING, given)
    return [grant for (grant,) in cursor.fetchall()]


def see_that_it_may(cursor: Any, schema: str | None, uses: Collection[str]) -> None:
    """Raises JournalUnavailable naming each GRANT that is missing."""
    if grants := missing(cursor, schema, uses):
        raise JournalUnavailable(
            f"the database role lacks rights on the journal, nothing was done; somebody who may give them has to run: "
            f"{'; '.join(grants)} (docs/rights.md lists all that a role needs)"
        )
