"""What PostgreSQL's catalogue says of a table that is to be recorded, and of the triggers on it; asked by
`history.postgresql`, which pins `search_path`, so that types are written the same by everybody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection, TextClause, text

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
    comment: str | None
    """On its function, where whoever installed it noted the partitions there were."""


class CatalogueTable(NamedTuple):
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


_TABLES: Final = text("""
    SELECT c.oid::bigint, n.nspname || '.' || c.relname, c.relkind::text, c.relpersistence::text, c.relispartition,
        EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
            WHERE c.oid IN (i.inhrelid, i.inhparent) AND p.relkind <> 'p')
        OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid OR s.srrelid IN
            (SELECT relid FROM pg_partition_tree(c.oid))),
        n.nspname || '.' = :home AND (c.relname = 'journal' OR starts_with(c.relname, 'actionbus_'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (:relations)
""")
_COLUMNS: Final = text("""
    WITH RECURSIVE part (relation, number, type, is_whole) AS (
        SELECT attrelid, attnum, atttypid, true FROM pg_attribute
        WHERE attrelid = ANY (:relations) AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.relation, part.number, inner_type.oid, part.is_whole AND t.typtype = 'd'
        FROM part JOIN pg_type t ON t.oid = part.type
        CROSS JOIN LATERAL (
            SELECT t.typelem AS oid WHERE t.typelem <> 0 UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
            UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
            UNION ALL SELECT rngtypid FROM pg_range WHERE rngmultitypid = t.oid
            UNION ALL SELECT atttypid FROM pg_attribute
                WHERE attrelid = t.typrelid AND t.typrelid <> 0 AND attnum > 0 AND NOT attisdropped
        ) inner_type),
    parts AS (
        SELECT p.relation, p.number,
            min(t.typname::text) FILTER (WHERE p.is_whole AND t.typtype <> 'd') AS base,
            array_agg(CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text
                WHEN t.typtype = 'b' AND t.typelem = 0 THEN '?' ELSE '' END) AS names
        FROM part p JOIN pg_type t ON t.oid = p.type GROUP BY p.relation, p.number)
    SELECT a.attrelid::bigint, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
        format_type(a.atttypid, NULL), a.attgenerated = 'v', a.atttypmod, coalesce(l.collisdeterministic, true),
        t.typlen, p.base, p.names
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    JOIN parts p ON p.relation = a.attrelid AND p.number = a.attnum
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE a.attrelid = ANY (:relations) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
""")
_KEYS: Final = text("""
    SELECT c.conrelid::bigint, a.attname, c.condeferrable FROM pg_constraint c
    CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY k (number, place)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
    WHERE c.conrelid = ANY (:relations) AND c.contype = 'p' ORDER BY k.place
""")
_MEMBERS: Final = text("""
    SELECT r.root::bigint, c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text
    FROM unnest(CAST(:relations AS oid[])) r (root)
    CROSS JOIN LATERAL (SELECT r.root AS relation UNION SELECT relid FROM pg_partition_tree(r.root)) m
    JOIN pg_class c ON c.oid = m.relation JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid
""")
_TRIGGERS: Final = text("""
    SELECT t.tgrelid::bigint, t.tgname, p.proname, p.prosrc, coalesce(p.proconfig, '{}'), p.prosecdef,
        t.tgenabled = 'A', (t.tgtype & 1) = 1, obj_description(p.oid, 'pg_proc')
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = ANY (:relations) AND starts_with(t.tgname, '!actionbus_')
""")
_DETACHED: Final = text("""
    SELECT DISTINCT CAST(split_part(p.proname, '_', 3) AS integer), format('%I.%I', n.nspname, c.relname)
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace h ON h.oid = p.pronamespace
    JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE starts_with(t.tgname, '!actionbus_') AND h.nspname || '.' = :home
    AND p.proname = ANY (:functions) AND t.tgrelid <> ALL (:members)
    ORDER BY 1, 2
""")
_CHILDREN: Final = text("""
    WITH RECURSIVE child (root, oid) AS (
        SELECT inhparent, inhrelid FROM pg_inherits JOIN pg_class p ON p.oid = inhparent
            WHERE inhparent = ANY (:relations) AND p.relkind <> 'p'
        UNION SELECT child.root, i.inhrelid FROM pg_inherits i JOIN child ON child.oid = i.inhparent)
    SELECT root::bigint, oid::bigint FROM child ORDER BY oid
""")
_BY_NAME: Final = text("""
    SELECT to_regclass(name)::oid::bigint FROM unnest(CAST(:names AS text[])) WITH ORDINALITY n (name, place)
    ORDER BY place
""")


def relations_of(connection: Connection, names: Sequence[str]) -> list[int | None]:
    """The oids of tables by their names in SQL, None for one that is not there."""
    return list(connection.execute(_BY_NAME, {"names": list(names)}).scalars())


def detached(
    connection: Connection, functions: Sequence[str], members: Sequence[int], home: str
) -> Mapping[int, list[str]]:
    """By shape, the tables besides `members` on which triggers with these functions stand; by their names in SQL."""
    given = {"functions": list(functions), "members": list(members), "home": home}
    return {shape: [name for (name,) in rows] for shape, rows in _grouped(connection, _DETACHED, given).items()}


def children(connection: Connection, relations: Sequence[int]) -> Mapping[int, list[int]]:
    """Tables that inherit from each; partitions do not count."""
    found = _grouped(connection, _CHILDREN, {"relations": list(relations)})
    return defaultdict(list, {relation: [one for (one,) in rows] for relation, rows in found.items()})


class Hold(Protocol):
    """Says which columns of a table are to be withheld."""

    def __call__(self, relation: int, name: str, numbers: Mapping[str, int]) -> tuple[str, ...]:
        """`numbers` are all columns of the table, with their `attnum`. Raises ConfigurationError."""


def look(
    connection: Connection, relations: Sequence[int], hold: Hold, home: str
) -> dict[int, CatalogueTable | ConfigurationError]:
    """Tables as they stand, or why their rows cannot be recorded; by a few queries, however many tables there are."""
    given = {"relations": list(relations)}
    rows = connection.execute(_TABLES, {**given, "home": home}).all()
    columns, keys, members = (_grouped(connection, each, given) for each in (_COLUMNS, _KEYS, _MEMBERS))
    triggers = _triggers(connection, sorted({member[0] for found in members.values() for member in found}))
    looked: dict[int, CatalogueTable | ConfigurationError] = {}
    for row in rows:
        try:
            looked[row[0]] = _found(row, columns[row[0]], keys[row[0]], members[row[0]], triggers, hold)
        except ConfigurationError as error:
            looked[row[0]] = error
    return looked


def _grouped(connection: Connection, query: TextClause, given: Mapping[str, Any]) -> Mapping[int, list[Any]]:
    """Rows without their first column, by it."""
    found: dict[int, list[Any]] = defaultdict(list)
    for relation, *row in connection.execute(query, given):
        found[relation].append(row)
    return found


def _found(
    row: Any,
    columns: list[Any],
    keys: list[Any],
    members: list[Any],
    triggers: Mapping[tuple[int, str], Trigger],
    hold: Hold,
) -> CatalogueTable:
    relation, name, kind, persistence, is_partition, is_by_row, is_ours = row
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
    withheld = hold(relation, name, {each[1]: each[0] for each in columns})
    kept = [each for each in columns if each[1] not in withheld and not each[4]]
    key = tuple(each[0] for each in keys)
    own = {member[0] for member in members}
    return CatalogueTable(
        relation,
        name,
        kind,
        tuple(_column(each) for each in kept),
        () if set(key) & set(withheld) else key,
        not any(each[1] for each in keys),
        withheld,
        tuple(each[0] for name in withheld for each in columns if each[1] == name),
        _pins(kept),
        tuple(Member(*each) for each in members),
        is_by_row,
        {place: trigger for place, trigger in triggers.items() if place[0] in own},
    )


def _triggers(connection: Connection, relations: list[int]) -> dict[tuple[int, str], Trigger]:
    rows = connection.execute(_TRIGGERS, {"relations": relations}).all()
    return {
        (relation, name): Trigger(function, body, tuple(settings), *rest)
        for relation, name, function, body, settings, *rest in rows
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
