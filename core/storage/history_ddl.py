"""The SQL that creates the row history's own tables, per database; part of the journal's first version (`storage.ddl`).

The triggers that fill them stand on the application's tables and are made by `core.history`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SHAPES: Final = "actionbus_shapes"
IMAGES: Final = "actionbus_images"
BYPASSES: Final = "actionbus_bypasses"
"""PostgreSQL: a row for each transaction that wrote past the gateway, from its first such write to its COMMIT."""
_REFUSAL: Final = "row images are append-only: they are never changed or removed"

_FUNCTIONS: Final = (
    # The database's user is who logged in, also where he acts in another's role. No statement's text: it holds values.
    """CREATE FUNCTION {home}.actionbus_who() RETURNS json LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
    $$SELECT json_build_object('user', session_user,
        'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
        'application', current_setting('application_name'), 'client', host(inet_client_addr()),
        'pid', pg_backend_pid(),
        'began', to_char(transaction_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
        'replica', current_setting('session_replication_role') = 'replica')$$""",
    # At COMMIT, within all locks of the transaction, so that for one row the order of positions is that of commits.
    # The row goes, so that writes after a SET CONSTRAINTS ALL IMMEDIATE make a second record. What cannot be appended
    # is found out by a statement that writes nothing: only so the block round it takes no transaction id.
    """CREATE FUNCTION {home}.actionbus_bypass() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own uuid := gen_random_uuid();
BEGIN
    BEGIN
        INSERT INTO {home}.journal (action_id, kind, action, correlation_id, context, seen)
            SELECT own, 'bypass', '', own::text, {home}.actionbus_who(), '' WHERE false;
        DELETE FROM {home}.actionbus_bypasses WHERE false;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'actionbus: a transaction past the gateway is not in the journal: %', SQLERRM;
        RETURN NULL;
    END;
    INSERT INTO {home}.journal (action_id, kind, action, correlation_id, context, seen)
        VALUES (own, 'bypass', '', own::text, {home}.actionbus_who(), pg_current_snapshot()::text);
    DELETE FROM {home}.actionbus_bypasses WHERE xid = NEW.xid;
    RETURN NULL;
END$$""",
    # A key in an index must be short, whatever it is made of. Nobody's secret: the rows hold the key as well.
    """CREATE FUNCTION {home}.actionbus_key(key text) RETURNS text LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$SELECT CASE WHEN octet_length(key) <= 1500 THEN key
        ELSE left(key, 300) || '...' || encode(sha256(convert_to(key, getdatabaseencoding())), 'hex') END$$""",
    # Never called: a statement that names it is refused where a column is no longer of its type.
    """CREATE FUNCTION {home}.actionbus_same(is_of anyelement, expected anyelement) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$SELECT true$$""",
    "REVOKE ALL ON FUNCTION {home}.actionbus_who(), {home}.actionbus_bypass() FROM PUBLIC",
)
"""PostgreSQL: what the triggers of all tables have in common; `{home}` is the journal's schema."""


def postgresql(prefix: str) -> list[str]:
    """The tables, before the journal is created, whose records say which image was the last when they were appended.

    An image's number is no position: the order of images is not that of execution, and a transaction that drew a
    number earlier may commit later. CACHE 1: for one row, whose lock is held from its change to the end of the
    transaction, the order of numbers is the order of commits.
    """
    return [
        f"""CREATE TABLE {prefix}{SHAPES} (
    shape integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    relation oid NOT NULL,
    columns text[] NOT NULL,
    types text[] NOT NULL,
    numbers smallint[] NOT NULL,
    key text[] NOT NULL,
    withheld text[] NOT NULL,
    is_baseline boolean NOT NULL,
    is_drifted boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    since_image bigint NOT NULL,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    withheld_numbers smallint[] NOT NULL DEFAULT '{{}}'
)""",
        f"""CREATE TABLE {prefix}{IMAGES} (
    image bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    shape integer NOT NULL,
    operation "char" NOT NULL,
    key text COLLATE "C",
    before text,
    after text,
    action text,
    xid bigint NOT NULL
)""",
        f"CREATE INDEX {IMAGES}_row ON {prefix}{IMAGES} (shape, key, image)",
        f"CREATE INDEX {IMAGES}_order ON {prefix}{IMAGES} USING brin (image, xid) WITH (pages_per_range = 32)",
        f"CREATE UNLOGGED TABLE {prefix}{BYPASSES} (xid bigint PRIMARY KEY)",
        f"""CREATE FUNCTION {prefix}{IMAGES}_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'restrict_violation'; END$$""",
        *refusing(prefix, IMAGES),
        *refusing(prefix, SHAPES),
        at_home(prefix, _FUNCTIONS),
        f"""CREATE CONSTRAINT TRIGGER {BYPASSES}_recorded AFTER INSERT ON {prefix}{BYPASSES}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {prefix}actionbus_bypass()""",
        f"ALTER TABLE {prefix}{BYPASSES} ENABLE ALWAYS TRIGGER {BYPASSES}_recorded",
    ]


def at_home(prefix: str, statements: Sequence[str]) -> str:
    """One statement that runs them all, their names qualified: with a fixed search_path nothing else is found."""
    home = f"{prefix}{BYPASSES}".replace("'", "''")
    run = "\n".join(f"EXECUTE replace($sql${each}$sql$, '{{home}}', home);" for each in statements)
    return f"""DO $do$
DECLARE
    home text := (SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = '{home}'::regclass);
BEGIN
{run}
END$do$"""


def refusing(prefix: str, table: str) -> list[str]:
    """PostgreSQL: what keeps a table of ours append-only."""
    return [
        f"""CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {prefix}{table}
    FOR EACH ROW EXECUTE FUNCTION {prefix}{IMAGES}_refuse()""",
        f"""CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {prefix}{table}
    FOR EACH STATEMENT EXECUTE FUNCTION {prefix}{IMAGES}_refuse()""",
        f"ALTER TABLE {prefix}{table} ENABLE ALWAYS TRIGGER {table}_append_only",
        f"ALTER TABLE {prefix}{table} ENABLE ALWAYS TRIGGER {table}_no_truncate",
    ]


def last_image(prefix: str) -> str:
    """A default of PostgreSQL for `images_upto`: no image of a transaction that ended before has a higher number.

    It stands after `position` in its row, and so is evaluated after that was drawn; and every image of a transaction
    was drawn before its position.
    """
    sequence = f"{prefix}{IMAGES}_image_seq".replace("'", "''")
    return f"coalesce(pg_sequence_last_value('{sequence}'::regclass), 0)"


def sqlite() -> list[str]:
    """The same for SQLite, where values are kept as they are, in columns without a type that are added when needed."""
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    return [
        f"""CREATE TABLE main.{SHAPES} (
    shape INTEGER PRIMARY KEY,
    table_name TEXT NOT NULL,
    columns TEXT NOT NULL,
    types TEXT NOT NULL,
    key TEXT NOT NULL,
    withheld TEXT NOT NULL,
    numbers TEXT NOT NULL DEFAULT '[]',
    since_position INTEGER,
    is_baseline INTEGER NOT NULL,
    since TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'),
    since_image INTEGER NOT NULL
)""",
        f"""CREATE TABLE main.{IMAGES} (
    image INTEGER PRIMARY KEY AUTOINCREMENT,
    shape INTEGER NOT NULL,
    operation TEXT NOT NULL,
    key,
    at REAL NOT NULL
)""",
        f"CREATE INDEX main.{IMAGES}_row ON {IMAGES} (shape, key)",
        *(
            f"CREATE TRIGGER main.{table}_no_{word} BEFORE {word.upper()} ON {table} {refuse}"
            for table in (IMAGES, SHAPES)
            for word in ("update", "delete")
        ),
        # INSERT OR REPLACE removes rows without firing DELETE triggers.
        *(
            f"""CREATE TRIGGER main.{table}_no_replace BEFORE INSERT ON {table}
    WHEN EXISTS (SELECT 1 FROM {table} WHERE {number} = NEW.{number}) {refuse}"""
            for table, number in ((IMAGES, "image"), (SHAPES, "shape"))
        ),
    ]
