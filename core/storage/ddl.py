"""The SQL that creates the journal, per database and version; run by the migrations and by `Journal.create`.

A version that was released is never edited: a change is a new version with a migration beside it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import DDL, Connection, text
from sqlalchemy.schema import CreateSchema

from actionbus.core.storage import archive_ddl, history_ddl, privacy_ddl, queue_ddl
from actionbus.core.storage.names import quoted

VERSION_TABLE = "actionbus_version"
"""Alembic's version table for our history; an application's own keeps its own."""
VERSIONS = ("0001",)
LATEST = VERSIONS[-1]

KEEPER = "actionbus_keeps_its_tables"
"""On PostgreSQL, the view that stands in the way of dropping a table of ours by mistake."""
TABLES: Final[dict[str, tuple[str, ...]]] = {
    "0001": (
        VERSION_TABLE,
        "journal",
        "actionbus_totals",
        "actionbus_marks",
        "actionbus_unfinished",
        archive_ddl.ARCHIVES,
        archive_ddl.ARCHIVED_KEYS,
        history_ddl.SHAPES,
        history_ddl.IMAGES,
        "actionbus_identity",
        "actionbus_incarnation",
        "actionbus_checkpoints",
        "actionbus_pauses",
        "actionbus_verifications",
        *queue_ddl.TABLES,
        privacy_ddl.DECLARED,
        privacy_ddl.ERASURES,
        privacy_ddl.KEYS,
    ),
}
"""The tables of each version; those that only PostgreSQL has beside them are left out."""
_KEPT = "these tables are not the application''s: its migrations leave them alone with include_name"
_REFUSAL = "the journal is append-only: records are never changed or removed"
_REFUSE: Final = f"""CREATE FUNCTION {{home}}.journal_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM {{home}}.actionbus_archives a
            WHERE a.state = '{archive_ddl.REMOVING}' AND a.table_name IS NULL AND OLD.position <= a.upto) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'restrict_violation';
END$$"""
"""PostgreSQL: what is archived may go, once the archive was verified."""


def statements(dialect: str, version: str, schema: str | None = None) -> list[DDL]:
    """The statements of one version. Raises ValueError for a database that is not supported."""
    made = {("postgresql", "0001"): _postgresql_0001, ("sqlite", "0001"): _sqlite_0001}.get((dialect, version))
    if made is None:
        raise ValueError(f"no journal for {dialect} {version}; supported are postgresql and sqlite")
    wanted = [verbatim(each) for each in made(_prefix(schema))]
    return [*wanted, keeper(version, schema)] if dialect == "postgresql" else wanted


def create(connection: Connection, schema: str | None = None) -> None:
    """Create the journal in a database that has none, as `actionbus db upgrade` would."""
    if schema and connection.dialect.name == "postgresql":
        connection.execute(CreateSchema(schema, if_not_exists=True))
    table = f"{_prefix(schema)}{VERSION_TABLE}"
    connection.execute(verbatim(f"CREATE TABLE {table} (version_num VARCHAR(32) PRIMARY KEY)"))
    for version in VERSIONS:
        for statement in statements(connection.dialect.name, version, schema):
            connection.execute(statement)
    connection.execute(verbatim(f"INSERT INTO {table} VALUES ('{LATEST}')"))


def begin_alone(connection: Connection) -> None:
    """Begin a transaction that creates or migrates, and wait until no other process does; over when it ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('actionbus tables'))"))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def keeper(version: str, schema: str | None = None) -> DDL:
    """SQL for a view that needs our tables as they are at `version`, so that PostgreSQL refuses to drop one of them.

    Without CASCADE, that is, which no migration tool writes by itself. To remove the journal for good, drop it first.
    """
    prefix = _prefix(schema)
    kept = [table for each in VERSIONS if each <= version for table in TABLES[each]]
    return verbatim(f"""CREATE OR REPLACE VIEW {prefix}{KEEPER} AS SELECT '{_KEPT}'::text AS why
    FROM {", ".join(prefix + table for table in kept)} WHERE false""")


def _prefix(schema: str | None) -> str:
    return f"{quoted(schema)}." if schema else ""


def verbatim(statement: str) -> DDL:
    """A statement whose colons and percent signs mean nothing, to be executed."""
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _postgresql_0001(prefix: str) -> list[str]:
    return [
        *_postgresql_journal(prefix),
        *_projection_tables(prefix),
        f"INSERT INTO {prefix}actionbus_identity (identity) VALUES (gen_random_uuid()::text)",
        *queue_ddl.postgresql(prefix),
        *privacy_ddl.postgresql(prefix),
    ]


def _postgresql_journal(prefix: str) -> list[str]:
    return [
        *history_ddl.postgresql(prefix),
        *archive_ddl.postgresql(prefix),
        # Types, and not constraints of the table, which PostgreSQL reads anew from their text at every INSERT.
        f"CREATE DOMAIN {prefix}actionbus_kind AS text CHECK (VALUE IN ('submitted', 'outcome', 'bypass'))",
        f"""CREATE DOMAIN {prefix}actionbus_status AS text
    CHECK (VALUE IN ('succeeded', 'rejected', 'denied', 'failed', 'interrupted'))""",
        f"CREATE DOMAIN {prefix}actionbus_actor AS text CHECK (VALUE <> '')",
        f"""CREATE TABLE {prefix}journal (
    position bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    action_id uuid NOT NULL,
    kind {prefix}actionbus_kind NOT NULL,
    status {prefix}actionbus_status,
    action text NOT NULL,
    handler_version integer,
    actor {prefix}actionbus_actor,
    correlation_id text NOT NULL,
    cause_id uuid,
    idempotency_key text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    release text,
    context json,
    arguments json,
    result json,
    error json,
    calls json,
    seed text,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    seen text,
    duration_us bigint,
    format smallint NOT NULL DEFAULT 1,
    images_after bigint,
    images_upto bigint DEFAULT {history_ddl.last_image(prefix)},
    CONSTRAINT journal_one_outcome UNIQUE (action_id, kind)
)""",
        f"""CREATE UNIQUE INDEX journal_idempotency ON {prefix}journal (idempotency_key, action, coalesce(actor, ''))
    WHERE idempotency_key IS NOT NULL""",
        f"CREATE INDEX journal_correlation ON {prefix}journal (correlation_id, position)",
        f"CREATE INDEX journal_action ON {prefix}journal (action, position) WHERE kind = 'outcome'",
        f"CREATE INDEX journal_actor ON {prefix}journal (actor, position) WHERE kind = 'outcome' AND actor IS NOT NULL",
        f"CREATE INDEX journal_cause ON {prefix}journal (cause_id, position) WHERE cause_id IS NOT NULL",
        f"CREATE INDEX journal_bypass ON {prefix}journal (xid) WHERE kind = 'bypass'",
        f"CREATE INDEX journal_unsuccessful ON {prefix}journal (status, position) WHERE status <> 'succeeded'",
        *_beside(prefix, "uuid"),
        history_ddl.at_home(prefix, (_REFUSE, *archive_ddl.FUNCTIONS)),
        *archive_ddl.postgresql_triggers(prefix),
        f"""CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE ON {prefix}journal
    FOR EACH ROW EXECUTE FUNCTION {prefix}journal_refuse()""",
        f"""CREATE TRIGGER journal_no_truncate BEFORE TRUNCATE ON {prefix}journal
    FOR EACH STATEMENT EXECUTE FUNCTION {prefix}journal_refuse()""",
        f"ALTER TABLE {prefix}journal ENABLE ALWAYS TRIGGER journal_append_only",
        f"ALTER TABLE {prefix}journal ENABLE ALWAYS TRIGGER journal_no_truncate",
    ]


def _beside(prefix: str, key: str) -> list[str]:
    """What is kept so that nobody has to read all of the journal; see `storage.totals` and `storage.unfinished`."""
    return [
        f"""CREATE TABLE {prefix}actionbus_totals (
    kind VARCHAR(20) NOT NULL,
    action TEXT NOT NULL,
    status VARCHAR(20) NOT NULL,
    records BIGINT NOT NULL,
    timed BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    PRIMARY KEY (kind, action, status)
)""",
        f"CREATE TABLE {prefix}actionbus_marks (name VARCHAR(20) PRIMARY KEY, position BIGINT NOT NULL)",
        f"INSERT INTO {prefix}actionbus_marks VALUES ('totals', 0), ('unfinished', 0)",
        f"CREATE TABLE {prefix}actionbus_unfinished (action_id {key} PRIMARY KEY, position BIGINT NOT NULL)",
    ]


def _sqlite_0001(prefix: str) -> list[str]:
    return [
        *_sqlite_journal(),
        *_projection_tables("main."),
        "INSERT INTO main.actionbus_identity (identity) VALUES (lower(hex(randomblob(16))))",
        *queue_ddl.sqlite(),
        *privacy_ddl.sqlite(),
    ]


def _sqlite_journal() -> list[str]:
    # Each `IN (…)` of three values or more is a table that SQLite makes and throws away at every INSERT, hence OR.
    # INSERT OR REPLACE removes rows without firing DELETE triggers unless the client asks for recursive ones, so the
    # last trigger looks for every row that could be replaced.
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    return [
        *archive_ddl.sqlite(),
        *history_ddl.sqlite(),
        """CREATE TABLE journal (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    action_id CHAR(32) NOT NULL,
    kind TEXT NOT NULL CHECK (kind = 'submitted' OR kind = 'outcome' OR kind = 'bypass'),
    status TEXT CHECK (status = 'succeeded' OR status = 'rejected' OR status = 'denied' OR status = 'failed'
        OR status = 'interrupted'),
    action TEXT NOT NULL,
    handler_version INTEGER,
    actor TEXT CHECK (actor <> ''),
    correlation_id TEXT NOT NULL,
    cause_id CHAR(32),
    idempotency_key TEXT,
    recorded_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'),
    started_at TEXT,
    release TEXT,
    context TEXT,
    arguments TEXT,
    result TEXT,
    error TEXT,
    calls TEXT,
    seed TEXT,
    xid INTEGER,
    seen TEXT,
    duration_us INTEGER,
    format INTEGER NOT NULL DEFAULT 1,
    images_after INTEGER,
    images_upto INTEGER,
    CONSTRAINT journal_one_outcome UNIQUE (action_id, kind),
    CONSTRAINT journal_status_of_outcome CHECK ((kind = 'outcome') = (status IS NOT NULL))
)""",
        """CREATE UNIQUE INDEX main.journal_idempotency ON journal (idempotency_key, action, coalesce(actor, ''))
    WHERE idempotency_key IS NOT NULL""",
        "CREATE INDEX main.journal_correlation ON journal (correlation_id, position)",
        "CREATE INDEX main.journal_action ON journal (action, position) WHERE kind = 'outcome'",
        "CREATE INDEX main.journal_actor ON journal (actor, position) WHERE kind = 'outcome' AND actor IS NOT NULL",
        "CREATE INDEX main.journal_cause ON journal (cause_id, position) WHERE cause_id IS NOT NULL",
        "CREATE INDEX main.journal_bypass ON journal (kind) WHERE kind = 'bypass'",
        "CREATE INDEX main.journal_unsuccessful ON journal (status, position) WHERE status <> 'succeeded'",
        *_beside("main.", "CHAR(32)"),
        f"CREATE TRIGGER main.journal_no_update BEFORE UPDATE ON journal {refuse}",
        f"""CREATE TRIGGER main.journal_no_delete BEFORE DELETE ON journal
    WHEN NOT {archive_ddl.may_go(archive_ddl.RECORD_IN)} {refuse}""",
        """CREATE TRIGGER main.journal_no_replace BEFORE INSERT ON journal
    WHEN EXISTS (SELECT 1 FROM journal WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM journal WHERE action_id = NEW.action_id AND kind = NEW.kind)
    OR NEW.idempotency_key IS NOT NULL AND (EXISTS (
        SELECT 1 FROM journal WHERE idempotency_key = NEW.idempotency_key AND action = NEW.action
        AND coalesce(actor, '') = coalesce(NEW.actor, '')) OR EXISTS (
        SELECT 1 FROM actionbus_archived_keys WHERE idempotency_key = NEW.idempotency_key AND action = NEW.action
        AND actor = coalesce(NEW.actor, '')))
    BEGIN SELECT RAISE(ABORT, 'the journal holds such a record already, and is append-only'); END""",
    ]


def _projection_tables(prefix: str) -> list[str]:
    """The journal's identity, what tells its database from copies, and how far each index of a projection is.

    Times are seconds since 1970 by the database's clock. `left_out` and `refused` are JSON lists of positions.
    """
    return [
        f"CREATE TABLE {prefix}actionbus_identity (identity VARCHAR(36) PRIMARY KEY)",
        f"""CREATE TABLE {prefix}actionbus_incarnation (
    is_only INTEGER PRIMARY KEY CHECK (is_only = 1),
    incarnation VARCHAR(36) NOT NULL,
    copied_from VARCHAR(36),
    cluster VARCHAR(40),
    major INTEGER,
    database BIGINT,
    relation BIGINT,
    xid BIGINT
)""",
        f"""CREATE TABLE {prefix}actionbus_pauses (
    name VARCHAR(100) PRIMARY KEY,
    paused_by TEXT,
    paused_at DOUBLE PRECISION NOT NULL,
    reason TEXT
)""",
        f"""CREATE TABLE {prefix}actionbus_verifications (
    index_name VARCHAR(200) PRIMARY KEY,
    projection VARCHAR(100) NOT NULL,
    verified_at DOUBLE PRECISION NOT NULL,
    position BIGINT NOT NULL,
    is_whole BOOLEAN NOT NULL,
    documents BIGINT NOT NULL,
    differences BIGINT NOT NULL,
    problem TEXT
)""",
        f"""CREATE TABLE {prefix}actionbus_checkpoints (
    index_name VARCHAR(200) NOT NULL,
    slice INTEGER NOT NULL,
    slices INTEGER NOT NULL,
    projection VARCHAR(100) NOT NULL,
    version INTEGER NOT NULL,
    built BOOLEAN NOT NULL,
    position BIGINT NOT NULL DEFAULT 0,
    writing_to BIGINT NOT NULL DEFAULT 0,
    documents BIGINT,
    documents_then BIGINT,
    holder VARCHAR(100),
    alive_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    frozen_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    created DOUBLE PRECISION NOT NULL DEFAULT 0,
    highest BIGINT NOT NULL DEFAULT 0,
    versions BIGINT,
    versions_then BIGINT,
    decided_to BIGINT NOT NULL DEFAULT 0,
    left_out TEXT,
    refused TEXT,
    alarm TEXT,
    state VARCHAR(20) NOT NULL DEFAULT 'new',
    detail TEXT,
    rate DOUBLE PRECISION,
    PRIMARY KEY (index_name, slice)
)""",
    ]
