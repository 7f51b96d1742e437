"""Writes the functions that record rows on PostgreSQL, and the triggers that call them; for `history.postgresql`.

Nothing in them may raise, lest recording make an application's write fail. What can go wrong is found out first, by a
statement that writes nothing: the block round it then takes no transaction id, which a block with writes would, for
each statement of the application. The same statement reads the row, if one alone was changed, as most are. Where
something is wrong, or a row is large, a second block records what it can; what it cannot is an image `!`, a gap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from actionbus.core.history.postgresql_catalogue import PINS, CatalogueTable, Member
from actionbus.core.history.postgresql_rows import (
    INTO,
    LARGE,
    RECORDS,
    SIDES,
    WRITTEN,
    images_of,
    is_large,
    key_text,
    row_text,
    same_key,
    size_of,
    source_of,
)
from actionbus.core.storage.history_ddl import last_image
from actionbus.core.storage.names import quoted

OPERATIONS: Final = ("insert", "update", "delete")
_READ: Final = {"o": "was", "n": "came"}
"""Where a row that was changed alone is read to."""
TRUNCATE: Final = "truncate"


class Function(NamedTuple):
    """A trigger function as it is to be."""

    name: str
    body: str
    settings: tuple[str, ...]
    """As the catalogue has them."""

    def statements(self, home: str) -> list[str]:
        """What makes it, and keeps others from putting it on tables of theirs, to forge images."""
        pins = " ".join(
            f"SET {name} = {_value(name, value)}" for name, _, value in (s.partition("=") for s in self.settings)
        )
        name = f"{home}{self.name}()"
        return [
            f"CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {pins} "
            f"AS {_dollar(self.body)}",
            f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
        ]


def functions(table: CatalogueTable, shape: int, home: str) -> dict[str, Function]:
    """By operation, what records a table's rows under a shape."""
    settings = ("search_path=pg_catalog, pg_temp", *(f"{pin}={PINS[pin]}" for pin in table.pins))
    made = {
        each: Function(f"actionbus_image_{shape}_{each}", _body(table, shape, home, each), settings)
        for each in OPERATIONS
    }
    # It asks for the columns when it runs, and so depends on whatever they may be.
    settings = (
        "search_path=pg_catalog, pg_temp",
        *(f"{pin}={value}" for pin, value in PINS.items()),
        "row_security=off",
    )
    return made | {TRUNCATE: Function(f"actionbus_image_{shape}_{TRUNCATE}", _truncated(shape, home), settings)}


def noting(table: CatalogueTable, function: Function, home: str) -> list[str]:
    """What notes the partitions there are: of one that is dropped nothing else is left, neither rows nor triggers."""
    if table.kind != "p":
        return []
    # In the letters that a person reads who looks at the comment, hence not `values.payload`.
    noted = json.dumps({str(member.relation): member.sql for member in table.members}, ensure_ascii=False)
    return [f"COMMENT ON FUNCTION {home}{function.name}() IS {_literal(noted)}"]


def noted(table: CatalogueTable) -> dict[int, str]:
    """The partitions there were when the triggers were installed last; none where nobody noted them."""
    comment = next((each.comment for each in table.triggers.values() if each.comment), None)
    try:
        return {int(relation): str(name) for relation, name in json.loads(comment or "{}").items()}
    except (ValueError, AttributeError):  # somebody's own words
        return {}


def trigger(table: CatalogueTable, member: Member, operation: str, function: Function, home: str) -> list[str]:
    """What puts one on a table, first in order, and firing whatever `session_replication_role` says."""
    name = quoted(f"!actionbus_{operation}")
    if operation == TRUNCATE:
        when = f"BEFORE TRUNCATE ON {member.sql} FOR EACH STATEMENT"
    elif table.is_by_row:
        when = f"AFTER {operation.upper()} ON {member.sql} FOR EACH ROW"
    else:
        sides = " ".join(f"{RECORDS[side]} TABLE AS {side}" for side in SIDES[operation])
        when = f"AFTER {operation.upper()} ON {member.sql} REFERENCING {sides} FOR EACH STATEMENT"
    return [
        f"CREATE OR REPLACE TRIGGER {name} {when} EXECUTE FUNCTION {home}{function.name}()",
        f"ALTER TABLE ONLY {member.sql} ENABLE ALWAYS TRIGGER {name}",
    ]


def needed(table: CatalogueTable, member: Member) -> tuple[str, ...]:
    """The operations for which a member needs a trigger."""
    if member.kind == "p":  # holds no rows; a partition is truncated with its own trigger
        return () if table.is_by_row else OPERATIONS
    return (*OPERATIONS, TRUNCATE)


def _looking(table: CatalogueTable, home: str, operation: str) -> str:
    """Reads a row that was changed alone, unless it is large or has another key; of several the second is an error.

    Two rows are read of all pairs at most, hence no condition: one that few pairs meet would be asked of all of them.
    """
    same = same_key(table, home) if operation == "update" else ""
    if same is None:
        return f"{_fit(table, home, operation)} SELECT NULL INTO row_key;"
    sides = SIDES[operation]
    sizes = {side: f"{size} <= {LARGE}" for side in sides if (size := size_of(table, side))}
    guards = {side: [sizes[side]] if side in sizes else [] for side in sides}
    key = key_text(table, sides[-1], home)
    if not all(c.is_fixed for c in table.columns if c.name in table.key):
        key = _if(guards[sides[-1]], key)
    if same:
        guards["n"] = [same, *guards["n"]]
    texts = [_if(guards[side], row_text(table, side)) if side in sides else "NULL" for side in _READ]
    sources = " CROSS JOIN ".join(source_of(table, side) for side in sides)
    return f"""{_fit(table, home, operation)}
        SELECT {key}, {", ".join(texts)} INTO STRICT row_key, {", ".join(_READ.values())} FROM {sources};"""


def _if(conditions: Sequence[str], value: str) -> str:
    return f"CASE WHEN {' AND '.join(conditions)} THEN {value} END" if conditions else value


def _of_one_row(table: CatalogueTable, shape: int, home: str, operation: str) -> str:
    """Records the row that was read, as it is."""
    if operation == "update" and same_key(table, home) is None:
        return ""
    read = " AND ".join(f"{_READ[side]} IS NOT NULL" for side in SIDES[operation])
    return f"""IF fits AND {read} THEN
        {INTO.format(home=home)} VALUES ({shape}, '{operation[0]}', row_key, was, came, named, mine);
        IF named IS NULL THEN
            {_bypass(home)}
        END IF;
        RETURN NULL;
    END IF;
    """


def _fit(table: CatalogueTable, home: str, operation: str) -> str:
    """What is refused where a column is gone or of another type, or the history's own tables are not as they were.

    It is never run, since nothing asks for it; so whether they may be written `_may_write` has to tell.
    """
    side = SIDES[operation][0]
    columns = [(f"{side}.{quoted(c.name)}", c.bare_type) for c in table.columns]
    columns += [(f"i.{name}", type_) for name, type_ in WRITTEN.items()] + [("b.xid", "bigint")]
    same = ", ".join(f"{home}actionbus_same({column}, NULL::{type_})" for column, type_ in columns)
    tables = f"{home}actionbus_images i, {home}actionbus_bypasses b"
    return f"WITH fit AS (SELECT i.ctid, b.ctid, {same} FROM {source_of(table, side)}, {tables})"


def _may_write(home: str) -> str:
    named = (_literal(f"{home}{each}") for each in ("actionbus_images", "actionbus_bypasses"))
    return " AND ".join(f"has_table_privilege({each}::regclass, 'INSERT')" for each in named)


def _drifted(table: CatalogueTable, shape: int, home: str, operation: str) -> str:
    """Records rows under the columns that are left, by their present names; a change as a delete and an insert."""
    lines = [f"drifted := {home}actionbus_drifted({shape}, TG_RELID);", "written := 0;"]
    for side in SIDES[operation]:
        source, given = ("(SELECT ($3).*) x", f", {RECORDS[side]}") if table.is_by_row else (f"{side} x", "")
        letter, sides = ("d", "%3$s, NULL") if side == "o" else ("i", "NULL, %3$s")
        images = (
            f"{INTO.format(home=home.replace('%', '%%'))} SELECT %1$s, '{letter}', %2$s, {sides}, $1, $2 FROM {source}"
        )
        lines += [
            f"EXECUTE format({_literal(images)}, drifted[1], drifted[2], drifted[3]) USING named, mine{given};",
            "GET DIAGNOSTICS counted = ROW_COUNT;",
            "written := written + counted;",
        ]
    return "\n            ".join(lines)


def _gap(shape: int, home: str) -> str:
    return f"{INTO.format(home=home)} VALUES ({shape}, '!', NULL, NULL, NULL, named, mine);"


_UNRECORDED: Final = (
    "RAISE WARNING 'actionbus: a change of % is not in the row history: %', TG_RELID::regclass, SQLERRM;"
)
_DECLARED: Final = """
#variable_conflict use_variable
DECLARE
    named text := nullif(left(current_setting('actionbus.action', true), 100), '');
    mine bigint := pg_current_xact_id_if_assigned()::text::bigint;
    fits boolean;
    is_large boolean;
    row_key text;
    was text;
    came text;
    written bigint;
    counted bigint;
    drifted text[];
    kept text[];
BEGIN"""


def _bypass(home: str) -> str:
    return f"INSERT INTO {home}actionbus_bypasses VALUES (mine) ON CONFLICT DO NOTHING;"


def _body(table: CatalogueTable, shape: int, home: str, operation: str) -> str:
    images = f"{INTO.format(home=home)} {images_of(table, shape, home, operation)};"
    return f"""{_DECLARED}
    BEGIN
        fits := {_may_write(home)};
        {_looking(table, home, operation)}
    EXCEPTION WHEN too_many_rows OR no_data_found THEN
        NULL;
    WHEN OTHERS THEN
        fits := false;
    END;
    {_of_one_row(table, shape, home, operation)}IF fits THEN
        is_large := {is_large(table, operation)};
    END IF;
    IF fits AND NOT is_large THEN
        {images}
        IF FOUND AND named IS NULL THEN
            {_bypass(home)}
        END IF;
        RETURN NULL;
    END IF;
    BEGIN
        IF fits THEN
            {images}
            GET DIAGNOSTICS written = ROW_COUNT;
        ELSE
            {_pinned(table)}
            {_drifted(table, shape, home, operation)}
            {_unpinned(table)}
        END IF;
        {_ending(shape, home)}"""


def _ending(shape: int, home: str) -> str:
    """Of the block that records what it can, and of its function: what it cannot is a gap."""
    return f"""IF written > 0 AND named IS NULL THEN
            {_bypass(home)}
        END IF;
        RETURN NULL;
    EXCEPTION WHEN serialization_failure OR deadlock_detected THEN
        RAISE;
    WHEN OTHERS THEN
        BEGIN
            {_gap(shape, home)}
            IF named IS NULL THEN
                {_bypass(home)}
            END IF;
        EXCEPTION WHEN OTHERS THEN
            {_UNRECORDED}
        END;
    END;
    RETURN NULL;
END"""


def _others(table: CatalogueTable) -> list[str]:
    return [pin for pin in PINS if pin not in table.pins]


def _pinned(table: CatalogueTable) -> str:
    """A column's new type may depend on settings that its old one did not."""
    kept = ", ".join(f"current_setting('{pin}')" for pin in _others(table))
    sets = "\n            ".join(f"PERFORM set_config('{pin}', '{PINS[pin]}', true);" for pin in _others(table))
    return f"kept := ARRAY[{kept}]::text[];\n            {sets}"


def _unpinned(table: CatalogueTable) -> str:
    return "\n            ".join(
        f"PERFORM set_config('{pin}', kept[{number}], true);" for number, pin in enumerate(_others(table), 1)
    )


def _truncated(shape: int, home: str) -> str:
    """Each row that goes is a delete. Under a snapshot that is older than the lock, rows may stand there unseen."""
    images = f"{INTO.format(home=home.replace('%', '%%'))} SELECT %1$s, 'd', %2$s, %3$s, NULL, $1, $2 FROM ONLY %4$s x"
    return f"""{_DECLARED}
    mine := pg_current_xact_id()::text::bigint;
    BEGIN
        drifted := {home}actionbus_drifted({shape}, TG_RELID);
        EXECUTE format({_literal(images)}, drifted[1], drifted[2], drifted[3], TG_RELID::regclass) USING named, mine;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            written := written + 1;
            {_gap(shape, home)}
        END IF;
        {_ending(shape, home)}"""


def drifting(home: str) -> list[str]:
    """What the functions ask where columns have changed and nobody has renewed them."""
    name = f"{home}actionbus_drifted(integer, oid)"
    return [
        f"""CREATE OR REPLACE FUNCTION {home}actionbus_drifted(was integer, leaf oid) RETURNS text[]
    LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    root oid := coalesce(pg_partition_root(leaf), leaf);
    old {home}actionbus_shapes;
    names text[];
    types text[];
    numbers smallint[];
    keys text[];
    made integer;
BEGIN
    SELECT * INTO STRICT old FROM {home}actionbus_shapes s WHERE s.shape = was;
    -- By number, so that a renamed column is known again; in a restored database, where numbers are new, by name.
    SELECT array_agg(a.attname::text ORDER BY a.attnum),
        array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum),
        array_agg(a.attnum ORDER BY a.attnum) INTO names, types, numbers
    FROM pg_attribute a WHERE a.attrelid = root AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
        AND CASE WHEN old.relation = root THEN a.attnum = ANY (old.numbers) ELSE a.attname = ANY (old.columns) END
        AND a.attname <> ALL (old.withheld);
    SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{{}}') INTO keys
    FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY k (number, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
    WHERE c.conrelid = root AND c.contype = 'p';
    IF NOT keys <@ names THEN
        keys := '{{}}';
    END IF;
    IF names = old.columns AND types = old.types THEN
        made := was;
    ELSE
        SELECT max(s.shape) INTO made FROM {home}actionbus_shapes s WHERE s.table_name = old.table_name
            AND s.is_drifted AND s.shape > was AND s.columns = names AND s.types = types AND s.key = keys;
    END IF;
    IF made IS NULL THEN
        INSERT INTO {home}actionbus_shapes
            (table_name, relation, columns, types, numbers, key, withheld, is_baseline, is_drifted, since_image,
            withheld_numbers)
        VALUES (old.table_name, root, coalesce(names, '{{}}'), coalesce(types, '{{}}'), coalesce(numbers, '{{}}'), keys,
            old.withheld, false, true,
            {last_image(home)}, old.withheld_numbers)
        RETURNING shape INTO made;
    END IF;
    RETURN ARRAY[
        made::text,
        CASE WHEN keys = '{{}}' THEN 'NULL' ELSE '{home.replace("'", "''")}actionbus_key(ROW('
            || (SELECT string_agg(format('x.%I', each), ', ' ORDER BY place)
                FROM unnest(keys) WITH ORDINALITY k (each, place))
            || ')::text)' END,
        'ROW(' || coalesce((SELECT string_agg(format('x.%I', each), ', ' ORDER BY place)
            FROM unnest(names) WITH ORDINALITY n (each, place)), '') || ')::text'];
END$$""",
        f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
    ]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _value(name: str, value: str) -> str:
    return value if name in ("search_path", "DateStyle") else _literal(value)


def _dollar(body: str) -> str:
    """A body between marks that do not occur in it: a column may have any name."""
    mark = "$actionbus$"
    while mark in body:
        mark = f"$a{mark[1:]}"
    return f"{mark}{body}{mark}"
