"""The SQL of privacy: what is personal, the one way to erase it, keys of subjects. Used by `storage.ddl`."""

from __future__ import annotations

from typing import Final

from actionbus.core.storage.archive_ddl import ARCHIVES, IMAGE_IN, may_go
from actionbus.core.storage.history_ddl import IMAGES, at_home, refusing

DECLARED: Final = "actionbus_declared"
ERASURES: Final = "actionbus_erasures"
KEYS: Final = "actionbus_subject_keys"
TAG_SIZE: Final = 16
"""SQLite: bytes that all stand-ins of one erasure begin with, and no value from before it."""
_REFUSAL: Final = "row images are append-only: they are never changed or removed"
_CLOSED: Final = "an erasure is on record for good: it is never changed or removed"

_FUNCTIONS: Final = (
    # As record_out writes them: each with its quotes, so that a field that was put there by hand can be told.
    r"""CREATE FUNCTION {home}.actionbus_fields(row_text text) RETURNS text[] LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS
    $$SELECT array_agg(found[1] ORDER BY place) FROM regexp_matches(
        substr(row_text, 2, length(row_text) - 2) || ',', '("(?:[^"\\]|""|\\.)*"|[^,"]*),', 'g'
    ) WITH ORDINALITY AS fields (found, place)$$""",
    # A bare field never begins with a space but here. What is NULL, or erased already, stays.
    """CREATE FUNCTION {home}.actionbus_erased(row_text text, places integer[], salt bytea) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS
    $$SELECT '(' || string_agg(CASE WHEN place = ANY (places) AND field <> '' AND field !~ '^ '
        THEN ' erased:' || encode(sha256(salt || convert_to(field, getdatabaseencoding())), 'hex') ELSE field END,
        ',' ORDER BY place) || ')'
    FROM unnest({home}.actionbus_fields(row_text)) WITH ORDINALITY AS fields (field, place)$$""",
    """CREATE FUNCTION {home}.actionbus_only_erased(was text, becomes text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS
    $$SELECT was IS NOT DISTINCT FROM becomes OR coalesce((SELECT bool_and(coalesce(
        one = other OR (one <> '' AND other ~ '^ erased:[0-9a-f]{64}$'), false))
    FROM unnest({home}.actionbus_fields(was), {home}.actionbus_fields(becomes)) AS pairs (one, other)), false)$$""",
    """CREATE OR REPLACE FUNCTION {home}.actionbus_images_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'actionbus_images' THEN
        IF EXISTS (SELECT FROM {home}.actionbus_erasures e WHERE e.xid = pg_current_xact_id()::text::bigint)
            AND (NEW.image, NEW.shape, NEW.operation, NEW.key, NEW.action, NEW.xid)
                IS NOT DISTINCT FROM (OLD.image, OLD.shape, OLD.operation, OLD.key, OLD.action, OLD.xid)
            AND {home}.actionbus_only_erased(OLD.before, NEW.before)
            AND {home}.actionbus_only_erased(OLD.after, NEW.after)
        THEN
            RETURN NEW;
        END IF;
        -- The last image of a row that is there becomes its baseline at the cut of an archive, or is again what it was.
        IF (NEW.image, NEW.shape, NEW.key, NEW.after, NEW.action, NEW.xid)
                IS NOT DISTINCT FROM (OLD.image, OLD.shape, OLD.key, OLD.after, OLD.action, OLD.xid)
            AND EXISTS (SELECT FROM {home}.actionbus_archives a
                WHERE OLD.image <= a.image AND OLD.shape = ANY (a.shapes) AND (
                    a.state = 'removing' AND NEW.operation = 'b' AND NEW.before IS NULL
                    OR a.state = 'attaching' AND OLD.operation = 'b'))
        THEN
            RETURN NEW;
        END IF;
    END IF;
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'actionbus_images' THEN
        IF EXISTS (SELECT FROM {home}.actionbus_archives a
            WHERE a.state = 'removing' AND OLD.image <= a.image AND OLD.shape = ANY (a.shapes)) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '%', CASE TG_TABLE_NAME WHEN 'actionbus_erasures'
        THEN '"""
    + _CLOSED
    + """' ELSE '"""
    + _REFUSAL
    + """' END
        USING ERRCODE = 'restrict_violation';
END$$""",
    # Images have no index by number alone: one walk through those of the shape, not one for each that is wanted.
    """CREATE FUNCTION {home}.actionbus_erase(
        of_subject text, of_shape integer, wanted bigint[], befores boolean[], afters boolean[], places integer[],
        salt bytea) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $$
#variable_conflict use_variable
DECLARE
    mine bigint := pg_current_xact_id()::text::bigint;
    counted bigint;
BEGIN
    INSERT INTO {home}.actionbus_erasures (subject)
        SELECT of_subject WHERE NOT EXISTS (SELECT FROM {home}.actionbus_erasures e WHERE e.xid = mine);
    UPDATE {home}.actionbus_images i SET
        before = CASE WHEN w.is_before THEN {home}.actionbus_erased(i.before, places, salt) ELSE i.before END,
        after = CASE WHEN w.is_after THEN {home}.actionbus_erased(i.after, places, salt) ELSE i.after END
    FROM unnest(wanted, befores, afters) AS w (image, is_before, is_after)
    WHERE i.shape = of_shape AND i.image = w.image
        AND i.image >= (SELECT min(n) FROM unnest(wanted) AS a (n))
        AND i.image <= (SELECT max(n) FROM unnest(wanted) AS a (n));
    GET DIAGNOSTICS counted = ROW_COUNT;
    RETURN counted;
END$$""",
    """REVOKE ALL ON FUNCTION
    {home}.actionbus_erase(text, integer, bigint[], boolean[], boolean[], integer[], bytea) FROM PUBLIC""",
)
"""PostgreSQL: `{home}` is the journal's schema."""


def postgresql(prefix: str) -> list[str]:
    """The tables, and the one way in which an image can be changed: values into stand-ins, by an erasure on record."""
    return [
        f"""CREATE TABLE {prefix}{ERASURES} (
    erasure bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject CHAR(64) NOT NULL,
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
)""",
        f"CREATE INDEX {ERASURES}_of ON {prefix}{ERASURES} (xid)",
        *_tables(prefix, "timestamptz NOT NULL DEFAULT clock_timestamp()"),
        at_home(prefix, _FUNCTIONS),
        *refusing(prefix, ERASURES),
    ]


def _tables(prefix: str, time: str) -> list[str]:
    """What of each recorded table is personal, and how long it is kept; the keys that personal arguments have."""
    index = f"{KEYS}_of ON {prefix}{KEYS}" if prefix != "main." else f"main.{KEYS}_of ON {KEYS}"
    return [
        f"""CREATE TABLE {prefix}{DECLARED} (
    table_name VARCHAR(200) NOT NULL,
    column_name VARCHAR(200) NOT NULL,
    subject_column VARCHAR(200),
    keep VARCHAR(50),
    declared_at {time},
    PRIMARY KEY (table_name, column_name)
)""",
        f"""CREATE TABLE {prefix}{KEYS} (
    key_id CHAR(32) NOT NULL,
    subject TEXT NOT NULL,
    secret VARCHAR(64) NOT NULL,
    made_at {time},
    PRIMARY KEY (key_id, subject)
)""",
        f"CREATE INDEX {index} (subject)",
    ]


def sqlite() -> list[str]:
    """The same for SQLite, which knows no roles: an erasure that is open lets values be changed until it is closed."""
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    closed = f"BEGIN SELECT RAISE(ABORT, '{_CLOSED}'); END"
    same = " AND ".join(f"NEW.{each} IS OLD.{each}" for each in ("image", "shape", "operation", "key", "at"))
    as_it_was = " AND ".join(f"NEW.{each} IS OLD.{each}" for each in ("image", "shape", "key", "at"))
    kept = " AND ".join(f"NEW.{each} IS OLD.{each}" for each in ("erasure", "subject", "tag", "began_at"))
    return [
        f"""CREATE TABLE main.{ERASURES} (
    erasure INTEGER PRIMARY KEY AUTOINCREMENT,
    subject CHAR(64) NOT NULL,
    tag BLOB NOT NULL UNIQUE,
    is_open INTEGER NOT NULL DEFAULT 1,
    began_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')
)""",
        *_tables("main.", "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"),
        f"DROP TRIGGER main.{IMAGES}_no_update",
        f"""CREATE TRIGGER main.{IMAGES}_no_update BEFORE UPDATE ON {IMAGES}
    WHEN NOT ({same} AND EXISTS (SELECT 1 FROM {ERASURES} WHERE is_open = 1))
    AND NOT ({as_it_was} AND EXISTS (SELECT 1 FROM {ARCHIVES} a WHERE {IMAGE_IN} AND (
        a.state = 'removing' AND NEW.operation = 'b' OR a.state = 'attaching' AND OLD.operation = 'b'))) {refuse}""",
        f"DROP TRIGGER main.{IMAGES}_no_delete",
        f"""CREATE TRIGGER main.{IMAGES}_no_delete BEFORE DELETE ON {IMAGES}
    WHEN NOT {may_go(IMAGE_IN)} {refuse}""",
        f"""CREATE TRIGGER main.{ERASURES}_no_update BEFORE UPDATE ON {ERASURES}
    WHEN NOT ({kept} AND OLD.is_open = 1 AND NEW.is_open = 0) {closed}""",
        f"CREATE TRIGGER main.{ERASURES}_no_delete BEFORE DELETE ON {ERASURES} {closed}",
        f"""CREATE TRIGGER main.{ERASURES}_no_replace BEFORE INSERT ON {ERASURES}
    WHEN EXISTS (SELECT 1 FROM {ERASURES} WHERE erasure = NEW.erasure OR tag = NEW.tag) {closed}""",
    ]
