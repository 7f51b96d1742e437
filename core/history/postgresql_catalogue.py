"""What PostgreSQL's catalogue says of a table that is to be recorded, and of the triggers on it; asked by
`history.postgresql`, which pins `search_path`, so that types are written the same by everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection, text

from actionbus.core.errors import ConfigurationError

PINS: Final[Mapping[str, str]] = {
    "TimeZone": "UTC",
    "DateStyle": "iso, mdy",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
}
"""Settings that a value's text depends on, and what they are while an image is written."""
_DEPENDS: Final[Mapping[str, tuple[str, ...]]] = {
    "timestamptz": ("TimeZone", "DateStyle"),
    "timestamp": ("DateStyle",),
    "date": ("DateStyle",),
    "interval": ("IntervalStyle",),
    "bytea": ("bytea_output",),
    "money": ("lc_monetary",),
    **dict.fromkeys(
        ("float4", "float8", "point", "box", "path", "polygon", "line", "lseg", "circle"), ("extra_float_digits",)
    ),
}
_SAME_TEXT: Final = frozenset({"int2", "int4", "int8", "oid", "uuid", "bool", "date", "timestamp", "timestamptz"})
"""Types of which equal values have equal texts."""
_TEXTS: Final = frozenset({"text", "varchar"})


class Column(NamedTuple):
    """A column that an image holds."""

    number: int
    name: str
    type: str
    """As declared, with its modifier."""
    bare_type: str
    """Without."""
    is_fixed: bool
    """Whether all its values are of one size."""
    is_small: bool
    """Whether its text is no matter of megabytes, whatever the value."""
    is_same_text: bool
    """Whether equal values have equal texts."""
    is_measured: bool
    """Whether octet_length tells its size, however it is stored."""


class Member(NamedTuple):
    """A relation that needs triggers: the table itself, and each partition."""

    relation: int
    sql: str
    """Its name as SQL takes it."""
    kind: str


class Trigger(NamedTuple):
    """A trigger of ours as it stands."""

    function: str
    body: str
    settings: tuple[str, ...]
    is_definer: bool
    is_always: bool
    is_by_row: bool


class Found(NamedTuple):
    """A table as it stands."""

    relation: int
    name: str
    """`schema.table`."""
    kind: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_key_sure: bool
    """Whether no two rows have one key at the end of a statement."""
    withheld: tuple[str, ...]
    withheld_numbers: tuple[int, ...]
    pins: tuple[str, ...]
    members: tuple[Member, ...]
    is_by_row: bool
    """Whether its triggers must be by row: logical replication fires no others, and those of a statement see rows of
    INHERITS children as the parent has them."""
    triggers: Mapping[tuple[int, str], Trigger]

    @property
    def sql(self) -> str:
        """Its name as SQL takes it."""
        return next(member.sql for member in self.members if member.relation == self.relation)


_TABLE: Final = text("""
    SELECT c.oid::bigint, n.nspname || '.' || c.relname, c.relkind::text, c.relpersistence::text, c.relispartition,
        EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
            WHERE c.oid IN (i.inhrelid, i.inhparent) AND p.relkind <> 'p')
        OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid OR s.srrelid IN
            (SELECT relid FROM pg_partition_tree(c.oid))),
        n.nspname || '.' = :home AND (c.relname = 'journal' OR starts_with(c.relname, 'actionbus_'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = :relation
""")
_COLUMNS: Final = text("""
    WITH RECURSIVE part (number, type, is_whole) AS (
        SELECT attnum, atttypid, true FROM pg_attribute WHERE attrelid = :relation AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.number, inner_type.oid, part.is_whole AND t.typtype = 'd'
        FROM part JOIN pg_type t ON t.oid = part.type
        CROSS JOIN LATERAL (
            SELECT t.typelem AS oid WHERE t.typelem <> 0 UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
            UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
            UNION ALL SELECT rngtypid FROM pg_range WHERE rngmultitypid = t.oid
            UNION ALL SELECT atttypid FROM pg_attribute
                WHERE attrelid = t.typrelid AND t.typrelid <> 0 AND attnum > 0 AND NOT attisdropped
        ) inner_type)
    SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, NULL),
        a.attgenerated = 'v', a.atttypmod, coalesce(l.collisdeterministic, true),
        (SELECT t.typlen FROM pg_type t WHERE t.oid = a.atttypid),
        (SELECT t.typname FROM part p JOIN pg_type t ON t.oid = p.type
            WHERE p.number = a.attnum AND p.is_whole AND t.typtype <> 'd' LIMIT 1),
        (SELECT array_agg(CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname
                WHEN t.typtype = 'b' AND t.typelem = 0 THEN '?' ELSE '' END)
            FROM part p JOIN pg_type t ON t.oid = p.type WHERE p.number = a.attnum)
    FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE a.attrelid = :relation AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
""")
_KEY: Final = text("""
    SELECT a.attname, c.condeferrable FROM pg_constraint c
    CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY k (number, place)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
    WHERE c.conrelid = :relation AND c.contype = 'p' ORDER BY k.place
""")
_MEMBERS: Final = text("""
    SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = :relation OR c.oid IN (SELECT relid FROM pg_partition_tree(:relation)) ORDER BY c.oid
""")
_TRIGGERS: Final = text("""
    SELECT t.tgrelid::bigint, t.tgname, p.proname, p.prosrc, coalesce(p.proconfig, '{}'), p.prosecdef,
        t.tgenabled = 'A', (t.tgtype & 1) = 1
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = ANY (:relations) AND starts_with(t.tgname, '!actionbus_')
""")
_DETACHED: Final = text("""
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname)
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace h ON h.oid = p.pronamespace
    JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE starts_with(t.tgname, '!actionbus_') AND h.nspname || '.' = :home
    AND starts_with(p.proname, :functions) AND t.tgrelid <> ALL (:members)
    ORDER BY 1
""")
_CHILDREN: Final = text("""
    WITH RECURSIVE child (oid) AS (
        SELECT inhrelid FROM pg_inherits JOIN pg_class p ON p.oid = inhparent
            WHERE inhparent = :relation AND p.relkind <> 'p'
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN child ON child.oid = i.inhparent)
    SELECT oid::bigint FROM child ORDER BY oid
""")


def relation_of(connection: Connection, name: str | None) -> int | None:
    """The oid of a table by its name in SQL, or None."""
    found = connection.execute(text("SELECT to_regclass(:name)::oid::bigint"), {"name": name}).scalar()
    return None if found is None else int(found)


def detached(connection: Connection, table: Found, shape: int, home: str) -> list[str]:
    """Tables that were partitions of it, by their names in SQL: triggers that write under its shape are still there."""
    members = [member.relation for member in table.members]
    values = {"functions": f"actionbus_image_{shape}_", "members": members, "home": home}
    return list(connection.execute(_DETACHED, values).scalars())


def children(connection: Connection, relation: int) -> list[int]:
    """Tables that inherit from it; partitions do not count."""
    return list(connection.execute(_CHILDREN, {"relation": relation}).scalars())


class Hold(Protocol):
    """Says which columns of a table are to be withheld."""

    def __call__(self, relation: int, name: str, numbers: Mapping[str, int]) -> tuple[str, ...]:
        """`numbers` are all columns of the table, with their `attnum`. Raises ConfigurationError."""


def look(connection: Connection, relation: int, hold: Hold, home: str) -> Found:
    """A table as it stands. Raises ConfigurationError where its rows cannot be recorded."""
    row = connection.execute(_TABLE, {"relation": relation, "home": home}).one()
    _, name, kind, persistence, is_partition, is_by_row, is_ours = row
    if kind not in "rp" or persistence == "t":
        raise ConfigurationError(
            [f"{name} is no table whose rows triggers can record (a view, a foreign or a temporary one)"]
        )
    if is_ours:
        raise ConfigurationError([f"{name} is a table of the journal's own"])
    if is_partition:
        raise ConfigurationError(
            [f"{name} is a partition, whose rows are recorded as those of the table that it is part of"]
        )
    rows = connection.execute(_COLUMNS, {"relation": relation}).all()
    withheld = hold(relation, name, {each[1]: each[0] for each in rows})
    kept = [each for each in rows if each[1] not in withheld and not each[4]]
    keys = connection.execute(_KEY, {"relation": relation}).all()
    key = tuple(each[0] for each in keys)
    members = connection.execute(_MEMBERS, {"relation": relation}).all()
    return Found(
        relation, name, kind, tuple(_column(each) for each in kept),
        () if set(key) & set(withheld) else key, not any(each[1] for each in keys), withheld,
        tuple(each[0] for name in withheld for each in rows if each[1] == name), _pins(kept),
        tuple(Member(*each) for each in members), is_by_row,
        _triggers(connection, [each[0] for each in members]),
    )  # fmt: skip


def _triggers(connection: Connection, relations: list[int]) -> dict[tuple[int, str], Trigger]:
    rows = connection.execute(_TRIGGERS, {"relations": relations}).all()
    return {
        (relation, name): Trigger(function, body, tuple(settings), is_definer, is_always, is_by_row)
        for relation, name, function, body, settings, is_definer, is_always, is_by_row in rows
    }


def _column(row: Any) -> Column:
    number, name, declared, bare, _, modifier, is_deterministic, length, base, _ = row
    is_bounded = base in ("varchar", "bpchar", "numeric") and declared != bare and modifier < 10_000
    is_small = length > 0 or is_bounded or base == "numeric"
    is_same = base in _SAME_TEXT or (base in _TEXTS and is_deterministic)
    return Column(number, name, declared, bare, length > 0, is_small, is_same, base in ("text", "varchar", "bytea"))


def _pins(rows: list[Any]) -> tuple[str, ...]:
    """What the texts of these columns depend on; all there is for a type of an extension, which may be built on any."""
    parts = {part for row in rows for part in row[9]}
    if "?" in parts:
        return tuple(PINS)
    needed = {pin for part in parts for pin in _DEPENDS.get(part, ())}
    return tuple(pin for pin in PINS if pin in needed)
