"""Every column type of both databases with extreme values: what is told, written back, is what was stored.

Compared in the database itself: as binary images of rows on PostgreSQL, by type and bytes on SQLite. Written under other
session settings than they are read with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from sqlalchemy import Column, MetaData, String, Table, Uuid
from sqlalchemy.engine import URL

from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.conftest import BusFactory
from tests.core.history.capturing import HOSTILE, Captured
from tests.core.history.capturing_sqlite import Recorded
from tests.core.history.extremes import AFFINITIES, OF_EXTENSIONS, SETUP, STORED, VALUES, XML


def types_of(captured: Captured) -> dict[str, list[str]]:
    """All of this server, with those of extensions that it has."""
    captured.run(*SETUP)
    found = dict(VALUES)
    there = {name for (name,) in captured.rows("SELECT name FROM pg_available_extensions")}
    for name, (kind, values) in OF_EXTENSIONS.items():
        if name in there:
            captured.run(f"CREATE EXTENSION {name}")
            found[kind] = values
    try:
        captured.rows("SELECT '<a/>'::xml::text")
    except Exception as error:
        assert "libxml" in str(error)
    else:
        found["xml"] = [*XML, "xmlparse(content 'a<b/>')"]
        found["xml[]"] = ["ARRAY['<a/>'::xml, NULL]"]
    return found


def as_text(value: Any, *, in_array: bool = False) -> str | None:
    """What PostgreSQL reads as this value."""
    if value is None:
        return "NULL" if in_array else None
    if isinstance(value, list):
        return "{" + ",".join(as_text(each, in_array=True) or "" for each in value) + "}"
    if isinstance(value, bytes):
        found = "\\x" + value.hex()
    elif isinstance(value, timedelta):
        whole = abs(value)
        sign = "-" if value < timedelta(0) else ""
        found = f"{sign}{whole.days} days {sign}{whole.seconds}.{whole.microseconds:06} seconds"
    elif isinstance(value, bool):
        found = "true" if value else "false"
    elif isinstance(value, (date, datetime, time)):
        found = value.isoformat()
    else:
        assert isinstance(value, (str, int, float, Decimal, UUID)), value
        found = repr(value) if isinstance(value, float) else str(value)
    return '"' + found.replace("\\", "\\\\").replace('"', '\\"') + '"' if in_array else found


def test_what_is_told_on_postgresql_is_what_was_stored(captured: Captured, postgres_url: URL) -> None:
    types = types_of(captured)
    tables = {f"t{number}": kind for number, kind in enumerate(types)}
    captured.run(
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind})" for table, kind in tables.items()),
        *(f"CREATE TABLE told_{table} (id int PRIMARY KEY, v {kind})" for table, kind in tables.items()),
    )
    captured.install(*tables)
    assert sum(map(len, types.values())) > 180
    captured.run(
        HOSTILE.replace("; SET xmloption = document", "").replace("SET ", "SET LOCAL "),
        *(
            f"INSERT INTO {table} VALUES ({number}, CAST({value} AS {kind}))"
            for table, kind in tables.items()
            for number, value in enumerate(types[kind])
        ),
        *(f"UPDATE {table} SET id = id + 100" for table in tables),
    )
    reader = psycopg2.connect(postgres_url.set(drivername="postgresql").render_as_string(hide_password=False))
    cursor = reader.cursor()
    cursor.execute("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, MDY'; SET xmloption = content")
    for table, kind in tables.items():
        [rows] = captured.bus.history.state(table).tables.values()
        assert len(rows) == len(types[kind])
        for row in rows:
            cursor.execute(
                f"INSERT INTO told_{table} VALUES (%s, CAST(CAST(%s AS text) AS {kind}))",
                (row["id"], as_text(row["v"])),
            )
        cursor.execute(
            f"SELECT t.v::text, o.v::text FROM {table} t LEFT JOIN told_{table} o ON o.id = t.id AND o *= t WHERE o IS NULL"
        )
        assert cursor.fetchall() == [], kind
    reader.close()
    assert "!" not in captured.operations()


@pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
def test_a_computed_column_is_recorded_where_it_is_stored(captured: Captured, kind: str) -> None:
    """PostgreSQL 18 has virtual ones, which a trigger sees as NULL: they are absent, not NULL."""
    if captured.rows("SELECT current_setting('server_version_num')::int < 180000")[0][0]:
        kind = "STORED"
    captured.run(f"CREATE TABLE t (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) {kind})")
    captured.install("t")
    captured.run("INSERT INTO t (id, n) VALUES (1, 21)", "UPDATE t SET n = 22")
    [rows] = captured.bus.history.state("t").tables.values()
    assert rows == [{"id": 1, "n": 22, **({"twice": 44} if kind == "STORED" else {})}]
    assert captured.status("t")[0].is_whole


@pytest.fixture
def db(sqlite_url: URL) -> Iterator[Recorded]:
    made = Recorded(sqlite_url)
    yield made
    made.client.close()
    made.bus.close()


def same(db: Recorded, table: str, told: list[dict[str, Any]], columns: list[str]) -> None:
    """What is told, written back into columns without a type, against what is stored."""
    db.client.execute(f"DROP TABLE IF EXISTS told_{table}")
    db.client.execute(f"CREATE TABLE told_{table} ({', '.join(columns)})")
    marks = ", ".join("?" * len(columns))
    db.client.executemany(f"INSERT INTO told_{table} VALUES ({marks})", [tuple(row.values()) for row in told])
    sides = [
        db.client.execute(
            f"SELECT {', '.join(f'typeof({c}), hex({c}), quote({c}), printf({chr(39)}%!.17g{chr(39)}, {c})' for c in columns)} "
            f"FROM {name} ORDER BY {columns[0]}"
        ).fetchall()
        for name in (table, f"told_{table}")
    ]
    assert sides[0] == sides[1]
    reals = "SELECT {0} FROM {1} WHERE typeof({0}) = 'real' ORDER BY {2}"
    for column in columns:
        bits = [
            [struct.pack("d", v) for (v,) in db.client.execute(reals.format(column, name, columns[0]))]
            for name in (table, f"told_{table}")
        ]
        assert bits[0] == bits[1]


def test_what_is_told_on_sqlite_is_what_was_stored(db: Recorded) -> None:
    assert len(STORED) > 100
    columns = ["id", *(f"c{number}" for number in range(len(AFFINITIES)))]
    declared = ", ".join(f"{name} {kind}" for name, kind in zip(columns[1:], AFFINITIES, strict=True))
    db.made(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {declared})", "t")
    marks = ", ".join("?" * len(columns))
    db.client.execute("BEGIN")
    for number, value in enumerate(STORED):
        db.client.execute(f"INSERT INTO t VALUES ({marks})", [number, *[value] * len(AFFINITIES)])
    db.client.execute("UPDATE t SET id = id + 1000")
    db.client.execute("COMMIT")
    same(db, "t", db.bus.history.state("t").tables["t"], columns)


def test_keys_of_every_class_and_strict_tables(db: Recorded) -> None:
    """As keys values are told apart by class; a text that is no UTF-8 is a value as well."""
    db.made(
        "CREATE TABLE t (k PRIMARY KEY, v); CREATE TABLE s (a INT, b TEXT, c REAL, d BLOB, e ANY, PRIMARY KEY (a, e)) "
        "STRICT, WITHOUT ROWID",
        "t",
        "s",
    )
    values = [each for each in STORED if each is not None and each == each]
    taken: set[Any] = set()
    for number, value in enumerate(values):
        with_class = (isinstance(value, str), isinstance(value, bytes), value)
        if with_class not in taken:
            taken.add(with_class)
            db.client.execute("INSERT INTO t VALUES (?, ?)", (value, number))
            if not (isinstance(value, float) and value.is_integer()):
                db.client.execute("INSERT INTO s VALUES (1, 'x', 0.5, x'00', ?)", (value,))
    db.client.execute("INSERT INTO t VALUES (CAST(x'ff61' AS TEXT), CAST(x'80' AS TEXT))")
    db.client.execute("UPDATE t SET v = v || 'z' WHERE typeof(v) = 'integer'")
    db.client.text_factory = lambda stored: stored.decode(errors="surrogateescape")
    told = db.bus.history.state("t").tables["t"]
    there = db.client.execute("SELECT k, v FROM t").fetchall()
    assert sorted(map(repr, (tuple(row.values()) for row in told))) == sorted(map(repr, there))
    told = db.bus.history.state("s").tables["s"]
    there = db.client.execute("SELECT * FROM s").fetchall()
    assert sorted(map(repr, (tuple(row.values()) for row in told))) == sorted(map(repr, there))
    for key, value in db.client.execute("SELECT k, v FROM t").fetchall()[:40]:
        if not isinstance(key, str) or key.isprintable():
            changes = db.bus.history.rows("t", key).changes
            assert repr(changes[-1].after and changes[-1].after["v"]) == repr(value), key


def test_a_uuid_names_a_row_as_people_write_it(make_bus: BusFactory) -> None:
    """SQLAlchemy keeps it as its digits alone on SQLite; the journal shows it with dashes."""
    bus = make_bus()
    metadata = MetaData()
    table = Table("things", metadata, Column("id", Uuid, primary_key=True), Column("v", String(50)))
    metadata.create_all(bus.engine)
    own = uuid4()
    with bus.engine.begin() as connection:
        install(bus.backend, connection, [TableWanted("things")])
        connection.execute(table.insert(), {"id": own, "v": str(own)})
    for key in (own, str(own), own.hex):
        assert [each.operation for each in bus.history.rows("things", key).changes] == ["insert"], key
    assert bus.history.blame("things", str(own), "v").columns[0].value == str(own)
