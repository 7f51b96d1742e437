"""SQL of rows as images have them on PostgreSQL: their texts, keys and sizes; for `history.postgresql_functions`.

A statement's rows come as transition tables: `o` as they were, `n` as they are. In a trigger by row they are one row.
"""

from __future__ import annotations

from typing import Final

from actionbus.core.history.postgresql_catalogue import CatalogueTable, Column
from actionbus.core.storage.names import quoted

SIDES: Final = {"insert": ("n",), "update": ("o", "n"), "delete": ("o",)}
RECORDS: Final = {"o": "OLD", "n": "NEW"}
LARGE: Final = 250_000
"""Bytes of a row as stored: compressed and escaped at its worst, its text has less than 1 GB, as a value must."""
WRITTEN: Final = {
    "shape": "integer",
    "operation": '"char"',
    **dict.fromkeys(("key", "before", "after", "action"), "text"),
    "xid": "bigint",
}
"""The columns of an image that the triggers write."""
INTO: Final = f"INSERT INTO {{home}}actionbus_images ({', '.join(WRITTEN)})"


def row_text(table: CatalogueTable, side: str) -> str:
    """SQL of a row's text."""
    return f"ROW({', '.join(f'{side}.{quoted(c.name)}' for c in table.columns)})::text"


def key_text(table: CatalogueTable, side: str, home: str) -> str:
    """SQL of a key's text. A long one is cut (`actionbus_key`), since an index takes no long ones."""
    columns = _key(table)
    if not columns:
        return "NULL::text"
    plain = f"ROW({', '.join(f'{side}.{quoted(c.name)}' for c in columns)})::text"
    if all(c.is_fixed for c in columns):
        return plain
    shortened = f"{home}actionbus_key({plain})"
    if not all(c.is_fixed or c.is_measured for c in columns):
        return shortened
    size = " + ".join(f"octet_length({side}.{quoted(c.name)})" for c in columns if not c.is_fixed)
    return f"CASE WHEN {size} <= 500 THEN {plain} ELSE {shortened} END"


def baseline_of(table: CatalogueTable, shape: int, home: str) -> str:
    """SQL that copies all rows of a table into images."""
    only = "" if table.kind == "p" else "ONLY "
    return (
        f"{INTO.format(home=home)} SELECT {shape}, 'b', {key_text(table, 'n', home)}, NULL, {row_text(table, 'n')}, "
        f"NULL, pg_current_xact_id()::text::bigint FROM {only}{table.sql} n"
    )


def _key(table: CatalogueTable) -> list[Column]:
    by_name = {c.name: c for c in table.columns}
    return [by_name[name] for name in table.key if name in by_name]


def images_of(table: CatalogueTable, shape: int, home: str, operation: str) -> str:
    """SQL of the images of one statement, as a query without its last condition."""
    o, n = (source_of(table, side) for side in "on")
    tail = "named, mine"
    rows = {side: row_text(table, side) for side in "on"}
    keys = {side: key_text(table, side, home) for side in "on"}
    gone = f"SELECT {shape}, 'd'::\"char\", {keys['o']}, {rows['o']}, NULL, {tail} FROM {o}"
    come = f"SELECT {shape}, 'i'::\"char\", {keys['n']}, NULL, {rows['n']}, {tail} FROM {n}"
    if operation == "insert":
        return come
    if operation == "delete":
        return gone
    same = same_key(table, home)
    if same is None:
        return f"{gone} UNION ALL {come}"
    first = quoted(_key(table)[0].name)  # of a primary key, hence never NULL
    is_o, is_n = f"o.{first} IS NOT NULL", f"n.{first} IS NOT NULL"
    return (
        f"SELECT {shape}, (CASE WHEN NOT ({is_o}) THEN 'i' WHEN {is_n} THEN 'u' ELSE 'd' END)::\"char\", "
        f"CASE WHEN {is_n} THEN {keys['n']} ELSE {keys['o']} END, CASE WHEN {is_o} THEN {rows['o']} END, "
        f"CASE WHEN {is_n} THEN {rows['n']} END, {tail} FROM {o} FULL JOIN {n} ON {same}"
    )


def same_key(table: CatalogueTable, home: str) -> str | None:
    """SQL that tells whether a row before and one after are the same one; None where nothing tells."""
    columns = _key(table)
    if not columns or not table.is_key_sure:
        return None
    if all(c.is_same_text for c in columns):
        return " AND ".join(f"o.{quoted(c.name)} OPERATOR(pg_catalog.=) n.{quoted(c.name)}" for c in columns)
    return f"{key_text(table, 'o', home)} = {key_text(table, 'n', home)}"


def source_of(table: CatalogueTable, side: str) -> str:
    return f"(SELECT {RECORDS[side]}.*) {side}" if table.is_by_row else side


def is_large(table: CatalogueTable, operation: str) -> str:
    """SQL that finds out whether a row's text might be too long for a value."""
    tests = (
        f"EXISTS (SELECT FROM {source_of(table, side)} WHERE {found} > {LARGE})"
        for side in SIDES[operation]
        if (found := size_of(table, side))
    )
    return " OR ".join(tests) or "false"


def size_of(table: CatalogueTable, side: str) -> str:
    """SQL of how large a row is as stored; empty where none can be large."""
    return " + ".join(f"coalesce(pg_column_size({side}.{quoted(c.name)}), 0)" for c in table.columns if not c.is_small)
