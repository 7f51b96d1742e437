"""The SQL of archives: what of history is no longer here, and the one way in which it goes. Used by `storage.ddl`.

A row of `actionbus_archives` says that what lies up to a position is, or was, to be taken out of the live tables. Only
while it says `removing` do the triggers let that go, and while it says `attaching` let it come back; see decision 0033.
"""

from __future__ import annotations

from typing import Final

ARCHIVES: Final = "actionbus_archives"
"""Each archive of the journal and the row history, and each pruning of one table's (which then has a `table_name`)."""
ARCHIVED_KEYS: Final = "actionbus_archived_keys"
"""Idempotency keys of records that were archived: they stay unique for good."""
REMOVING: Final = "removing"
REMOVED: Final = "removed"
ATTACHING: Final = "attaching"
ATTACHED: Final = "attached"
ENDS: Final = f"""SELECT coalesce(max(upto), 0) FROM {{home}}{ARCHIVES}
    WHERE table_name IS NULL AND state <> '{ATTACHED}'"""
"""Up to which position records are gone; `{home}` is what stands before a name of ours."""
_REFUSAL: Final = "what was archived is on record for good: it is never changed or removed"
_STEPS: Final = ((REMOVING, REMOVED), (REMOVED, ATTACHING), (ATTACHING, ATTACHED))

FUNCTIONS: Final = (
    # Keys of archived records keep others of the same name out, as the index does with those that are here. A trigger
    # that gives no row is what ON CONFLICT DO NOTHING makes of a conflict.
    """CREATE FUNCTION {home}.journal_key() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM {home}.actionbus_archived_keys k WHERE k.idempotency_key = NEW.idempotency_key
        AND k.action = NEW.action AND k.actor = coalesce(NEW.actor, '')) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END$$""",
    """CREATE FUNCTION {home}.actionbus_archives_refuse() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.state, NEW.state) IN ("""
    + ", ".join(f"('{before}', '{after}')" for before, after in _STEPS)
    + """) AND to_jsonb(NEW) - 'state' = to_jsonb(OLD) - 'state' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '"""
    + _REFUSAL
    + """' USING ERRCODE = 'restrict_violation';
END$$""",
)
"""PostgreSQL: `{home}` is the journal's schema."""


def postgresql(prefix: str) -> list[str]:
    """The tables, where `prefix` qualifies names; before the journal, whose triggers look into them."""
    return [
        _archives(
            prefix,
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            "timestamptz",
            "integer[]",
            "uuid",
            "clock_timestamp()",
        ),
        _keys(prefix, "uuid"),
    ]


def postgresql_triggers(prefix: str) -> list[str]:
    """What keeps the tables as they are, and keys out that were used; after `FUNCTIONS`."""
    refuse = f"EXECUTE FUNCTION {prefix}{ARCHIVES}_refuse()"
    return [
        f"""CREATE TRIGGER {ARCHIVES}_append_only BEFORE UPDATE OR DELETE ON {prefix}{ARCHIVES}
    FOR EACH ROW {refuse}""",
        f"CREATE TRIGGER {ARCHIVES}_no_truncate BEFORE TRUNCATE ON {prefix}{ARCHIVES} FOR EACH STATEMENT {refuse}",
        f"ALTER TABLE {prefix}{ARCHIVES} ENABLE ALWAYS TRIGGER {ARCHIVES}_append_only",
        f"ALTER TABLE {prefix}{ARCHIVES} ENABLE ALWAYS TRIGGER {ARCHIVES}_no_truncate",
        f"""CREATE TRIGGER journal_key BEFORE INSERT ON {prefix}journal
    FOR EACH ROW WHEN (NEW.idempotency_key IS NOT NULL) EXECUTE FUNCTION {prefix}journal_key()""",
        f"ALTER TABLE {prefix}journal ENABLE ALWAYS TRIGGER journal_key",
    ]


def sqlite() -> list[str]:
    """The statements that make these tables on SQLite."""
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    kept = " AND ".join(f"NEW.{each} IS OLD.{each}" for each in _KEPT)
    steps = " OR ".join(f"(OLD.state = '{before}' AND NEW.state = '{after}')" for before, after in _STEPS)
    now = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
    return [
        _archives("main.", "INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", "TEXT", "CHAR(32)", now),
        _keys("main.", "CHAR(32)"),
        f"""CREATE TRIGGER main.{ARCHIVES}_no_update BEFORE UPDATE ON {ARCHIVES}
    WHEN NOT ({kept} AND ({steps})) {refuse}""",
        f"CREATE TRIGGER main.{ARCHIVES}_no_delete BEFORE DELETE ON {ARCHIVES} {refuse}",
        f"""CREATE TRIGGER main.{ARCHIVES}_no_replace BEFORE INSERT ON {ARCHIVES}
    WHEN EXISTS (SELECT 1 FROM {ARCHIVES} WHERE archive = NEW.archive) {refuse}""",
    ]


def may_go(of_row: str) -> str:
    """SQLite: whether an archive that is being removed holds what `of_row` says, a condition on such a row."""
    return f"EXISTS (SELECT 1 FROM {ARCHIVES} a WHERE a.state = '{REMOVING}' AND {of_row})"


RECORD_IN: Final = "a.table_name IS NULL AND OLD.position <= a.upto"
IMAGE_IN: Final = "OLD.image <= a.image AND OLD.shape IN (SELECT value FROM json_each(a.shapes))"
"""SQLite: that a record, or an image, is one of an archive's."""
_KEPT: Final = (
    "archive",
    "table_name",
    "after",
    "upto",
    "image",
    "ended",
    "moment",
    "shapes",
    "folder",
    "digest",
    "records",
    "images",
    "actor",
    "action_id",
    "made_at",
)


def _archives(prefix: str, number: str, time: str, shapes: str, key: str, now: str) -> str:
    """Up to which position, and which image: as `history.images.Cut` has them, for whoever reads what came after."""
    return f"""CREATE TABLE {prefix}{ARCHIVES} (
    archive {number},
    table_name TEXT,
    state VARCHAR(10) NOT NULL,
    after BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    image BIGINT NOT NULL,
    ended BIGINT NOT NULL,
    moment {time} NOT NULL,
    shapes {shapes} NOT NULL,
    folder TEXT,
    digest CHAR(64),
    records BIGINT NOT NULL,
    images BIGINT NOT NULL,
    actor TEXT,
    action_id {key} NOT NULL,
    made_at {time} NOT NULL DEFAULT {now}
)"""


def _keys(prefix: str, key: str) -> str:
    return f"""CREATE TABLE {prefix}{ARCHIVED_KEYS} (
    idempotency_key TEXT NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    action_id {key} NOT NULL,
    position BIGINT NOT NULL,
    outcome BIGINT NOT NULL,
    status VARCHAR(20) NOT NULL,
    archive BIGINT NOT NULL,
    PRIMARY KEY (idempotency_key, action, actor)
)"""
