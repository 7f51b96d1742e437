"""The SQL that creates the journal, per database and version; run by the migrations and by `Journal.create`.

A version that was released is never edited: a change is a new version with a migration beside it.
"""

from __future__ import annotations

from sqlalchemy import DDL, Connection, text
from sqlalchemy.schema import CreateSchema

from actionbus.core.storage import history_ddl, privacy_ddl
from actionbus.core.storage.backend import quoted

VERSION_TABLE = "actionbus_version"
"""Alembic's version table for our history; an application's own keeps its own."""
VERSIONS = ("0001", "0002", "0003", "0004")
LATEST = VERSIONS[-1]

KEEPER = "actionbus_keeps_its_tables"
"""On PostgreSQL, the view that stands in the way of dropping a table of ours by mistake."""
_TABLES = {
    "0001": (VERSION_TABLE, "journal", history_ddl.SHAPES, history_ddl.IMAGES),
    "0002": ("actionbus_identity", "actionbus_checkpoints"),
    "0003": ("actionbus_runs",),
    "0004": (privacy_ddl.DECLARED, privacy_ddl.ERASURES, privacy_ddl.KEYS),
}
_KEPT = "these tables are not the application''s: its migrations leave them alone with include_name"
_REFUSAL = "the journal is append-only: records are never changed or removed"


def statements(dialect: str, version: str, schema: str | None = None) -> list[DDL]:
    """The statements of one version. Raises ValueError for a database that is not supported."""
    made = {
        ("postgresql", "0001"): _postgresql_0001, ("sqlite", "0001"): _sqlite_0001,
        ("postgresql", "0002"): _postgresql_0002, ("sqlite", "0002"): _sqlite_0002,
        ("postgresql", "0003"): _postgresql_0003, ("sqlite", "0003"): _sqlite_0003,
        ("postgresql", "0004"): privacy_ddl.postgresql, ("sqlite", "0004"): _sqlite_0004,
    }.get((dialect, version))  # fmt: skip
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
    kept = [table for each in VERSIONS if each <= version for table in _TABLES[each]]
    return verbatim(f"""CREATE OR REPLACE VIEW {prefix}{KEEPER} AS SELECT '{_KEPT}'::text AS why
    FROM {", ".join(prefix + table for table in kept)} WHERE false""")


def _prefix(schema: str | None) -> str:
    return f"{quoted(schema)}." if schema else ""


def verbatim(statement: str) -> DDL:
    """A statement whose colons and percent signs mean nothing, to be executed."""
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _postgresql_0001(prefix: str) -> list[str]:
    return [
        *history_ddl.postgresql(prefix),
        f"""CREATE TABLE {prefix}journal (
    position bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    action_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('submitted', 'outcome', 'bypass')),
    status text CHECK (status IN ('succeeded', 'rejected', 'denied', 'failed', 'interrupted')),
    action text NOT NULL,
    handler_version integer,
    actor text CHECK (actor <> ''),
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
    CONSTRAINT journal_one_outcome UNIQUE (action_id, kind),
    CONSTRAINT journal_status_of_outcome CHECK ((kind = 'outcome') = (status IS NOT NULL))
)""",
        f"""CREATE UNIQUE INDEX journal_idempotency ON {prefix}journal (idempotency_key, action, coalesce(actor, ''))
    WHERE idempotency_key IS NOT NULL""",
        f"CREATE INDEX journal_correlation ON {prefix}journal (correlation_id)",
        f"CREATE INDEX journal_cause ON {prefix}journal (cause_id) WHERE cause_id IS NOT NULL",
        f"CREATE INDEX journal_bypass ON {prefix}journal (xid) WHERE kind = 'bypass'",
        f"CREATE INDEX journal_recorded_at ON {prefix}journal USING brin (recorded_at)",
        f"""CREATE FUNCTION {prefix}journal_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'restrict_violation'; END$$""",
        f"""CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE ON {prefix}journal
    FOR EACH ROW EXECUTE FUNCTION {prefix}journal_refuse()""",
        f"""CREATE TRIGGER journal_no_truncate BEFORE TRUNCATE ON {prefix}journal
    FOR EACH STATEMENT EXECUTE FUNCTION {prefix}journal_refuse()""",
        f"ALTER TABLE {prefix}journal ENABLE ALWAYS TRIGGER journal_append_only",
        f"ALTER TABLE {prefix}journal ENABLE ALWAYS TRIGGER journal_no_truncate",
    ]


def _sqlite_0001(prefix: str) -> list[str]:
    # INSERT OR REPLACE removes rows without firing DELETE triggers unless the client asks for recursive ones, so the
    # last trigger looks for every row that could be replaced.
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    return [
        *history_ddl.sqlite(),
        """CREATE TABLE journal (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    action_id CHAR(32) NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('submitted', 'outcome', 'bypass')),
    status TEXT CHECK (status IN ('succeeded', 'rejected', 'denied', 'failed', 'interrupted')),
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
        "CREATE INDEX main.journal_correlation ON journal (correlation_id)",
        "CREATE INDEX main.journal_cause ON journal (cause_id) WHERE cause_id IS NOT NULL",
        "CREATE INDEX main.journal_bypass ON journal (kind) WHERE kind = 'bypass'",
        f"CREATE TRIGGER main.journal_no_update BEFORE UPDATE ON journal {refuse}",
        f"CREATE TRIGGER main.journal_no_delete BEFORE DELETE ON journal {refuse}",
        """CREATE TRIGGER main.journal_no_replace BEFORE INSERT ON journal
    WHEN EXISTS (SELECT 1 FROM journal WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM journal WHERE action_id = NEW.action_id AND kind = NEW.kind)
    OR NEW.idempotency_key IS NOT NULL AND EXISTS (
        SELECT 1 FROM journal WHERE idempotency_key = NEW.idempotency_key AND action = NEW.action
        AND coalesce(actor, '') = coalesce(NEW.actor, ''))
    BEGIN SELECT RAISE(ABORT, 'the journal holds such a record already, and is append-only'); END""",
    ]


def _postgresql_0002(prefix: str) -> list[str]:
    return [
        *_projection_tables(prefix),
        f"INSERT INTO {prefix}actionbus_identity (identity) VALUES (gen_random_uuid()::text)",
    ]


def _sqlite_0002(prefix: str) -> list[str]:
    return [
        *_projection_tables("main."),
        "INSERT INTO main.actionbus_identity (identity) VALUES (lower(hex(randomblob(16))))",
    ]


def _projection_tables(prefix: str) -> list[str]:
    """The journal's identity, and how far each index of a projection is.

    Times are seconds since 1970 by the database's clock.
    """
    return [
        f"CREATE TABLE {prefix}actionbus_identity (identity VARCHAR(36) PRIMARY KEY)",
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
    state VARCHAR(20) NOT NULL DEFAULT 'new',
    detail TEXT,
    rate DOUBLE PRECISION,
    PRIMARY KEY (index_name, slice)
)""",
    ]


def _postgresql_0003(prefix: str) -> list[str]:
    return _runs_table(prefix, "uuid", f"actionbus_runs_publish_at ON {prefix}actionbus_runs")


def _sqlite_0003(prefix: str) -> list[str]:
    return _runs_table("main.", "CHAR(32)", "main.actionbus_runs_publish_at ON actionbus_runs")


def _sqlite_0004(prefix: str) -> list[str]:
    return privacy_ddl.sqlite()


def _runs_table(prefix: str, key: str, index: str) -> list[str]:
    """Queued actions on their way. Times are seconds since 1970."""
    return [
        f"""CREATE TABLE {prefix}actionbus_runs (
    action_id {key} PRIMARY KEY,
    action VARCHAR(100) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    queued_at DOUBLE PRECISION NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    publish_at DOUBLE PRECISION NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    worker VARCHAR(200),
    claimed_at DOUBLE PRECISION,
    problem TEXT
)""",
        f"CREATE INDEX {index} (publish_at)",
    ]
