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
from tests.conftest import TORTURE, BusFactory
from tests.core.history.capturing import HOSTILE, Captured
from tests.core.history.capturing_sqlite import Recorded

SETUP = [
    "CREATE DOMAIN moment AS timestamptz", "CREATE DOMAIN moments AS timestamptz[]", "CREATE DOMAIN small AS numeric(5, 2) CHECK (VALUE < 500)",
    "CREATE TYPE pair AS (at timestamptz, took interval, x float8, b bytea, words text)",
    "CREATE TYPE nest AS (p pair, n int[], m moment)", "CREATE TYPE mood AS ENUM ('so, \"so\"', '', 'null', 'Ünlü')",
    "CREATE TYPE spans AS RANGE (subtype = interval)", "CREATE TYPE floats AS RANGE (subtype = float8)",
]  # fmt: skip
TEXTS = ["''", "'NULL'", "'null'", "' '", "E'a\\n\\r\\t\"b\\\\,(){}'", "repeat('x', 3000)", "'é€𐍈'", "E'\\u0001\\u007f\\ufeff\\u2028'",
         "'\"'", "'\"\"'", "E'\\\\'", "E'\\'\\''", "','", "'()'", "'{}'", "repeat('\"\\', 500)"]  # fmt: skip
VALUES: dict[str, list[str]] = {
    "smallint": ["-32768", "32767", "NULL", "0"], "integer": ["-2147483648", "2147483647"],
    "bigint": ["9223372036854775807", "-9223372036854775808"], "oid": ["4294967295", "0"], "xid8": ["'18446744073709551615'"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1e-300", "1e130", "1.0", "1.00", "-0.000", "'1e-16383'", "repeat('9', 1000)::numeric"],
    "numeric(20, 5)": ["1.5", "-99999.99999"], "small": ["1", "'-0.10'"],
    "real": ["'-0'", "'1e-45'", "'NaN'", "'-Infinity'", "3.4028235e38", "0.1", "16777216"],
    "double precision": ["'-0'", "5e-324", "'Infinity'", "'NaN'", "0.1", "1.7976931348623157e308", "1e15", "1e16", "123456789012345680"],
    "text": TEXTS, "varchar": TEXTS[:4], "varchar(20)": ["' a '", "''"], "char(5)": ["'a'", "''", "'é'"], "\"char\"": ["'a'", "''", "'\"'"],
    "name": ["'a b'", "repeat('n', 63)"], "bytea": ["'\\x00ff5c27'", "''", "decode(repeat('00ff', 2000), 'hex')", "'\\x'"],
    "boolean": ["true", "false"], "uuid": ["gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"],
    "date": ["'0044-03-15 BC'", "'infinity'", "'-infinity'", "'2024-11-03'", "'4713-01-01 BC'", "'5874897-12-31'", "'0001-01-01'", "'10000-01-01'"],
    "time": ["'24:00'", "'00:00'", "'23:59:59.999999'", "'12:00:00.1'"], "time(0)": ["'23:59:59.6'"],
    "timetz": ["'12:00+05:30:15'", "'24:00-15:59:59'", "'00:00+15:59:59'", "'12:00:00.000001Z'"],
    "timestamp": ["'2024-11-03 01:30:00.123456'", "'-infinity'", "'infinity'", "'4713-01-01 00:00 BC'", "'294276-12-31 23:59:59.999999'", "'0001-01-01'"],
    "timestamptz": ["'2024-11-03 05:30:00+00'", "'2024-11-03 06:30:00+00'", "'4713-01-01 00:00+00 BC'", "'infinity'", "'1800-01-01 00:00:00+00'",
                    "'294276-12-31 23:59:59.999999+00'", "'0001-01-01 00:00+00'", "'9999-12-31 23:59:59.999999+00'", "'1910-06-15 12:00:00.5+00'"],
    "timestamptz(2)": ["'2024-11-03 05:30:00.987+00'"],
    "interval": ["'-1 year 2 days -03:04:05.678'", "'178000000 years'", "'-178000000 years'", "'1 mon'", "'1 day -00:00:00.000001'", "'0'", "'-1 day'",
                 "'999999 days'", "'1000000000 days'", "'2147483647 hours'", "'-00:00:01'", "'1 day'", "'-2 days'"],
    "interval day to second": ["'1 02:03:04'"], "interval year": ["'3 years'"],
    "json": ["'{\"a\":1,\"a\": 1e400}'", "'\"\\u0000\"'", "'null'", "' [ 1 , 2.0 ] '", "'1'", "'\"\"'"],
    "jsonb": ["'null'", "'{\"b\": [1.0, \"é\"]}'", "'1e400'", "'\"\\\"\"'", "'{}'", "'-0.0'"], "jsonpath": ["'$.a[*] ? (@ > 1)'"],
    "inet": ["'::1/64'", "'10.0.0.1'", "'10.0.0.1/8'"], "cidr": ["'10.0.0.0/8'", "'::/0'"], "macaddr": ["'08:00:2b:01:02:03'"], "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(3)": ["B'101'", "B'000'"], "bit varying": ["B'101'", "B''"], "money": ["1234.56", "-0.01", "'-92233720368547758.08'", "'92233720368547758.07'"],
    "point": ["'(0.1,-0)'", "'(NaN,Infinity)'"], "line": ["'{1,-1,0.1}'"], "lseg": ["'[(0,0.1),(1,-0)]'"], "box": ["'(1,1),(0.1,-0)'"],
    "path": ["'[(0,0),(0.1,1)]'", "'((0,0),(0.1,1))'"], "polygon": ["'((0,0),(1,0.1),(5e-324,1e308))'"], "circle": ["'<(0.1,-0),1e-300>'"],
    "tsvector": ["'a:1 b'", "'''a '''' b'':1A,2'", "''"], "tsquery": ["'a & !b | c <-> d:*A'", "''"],
    "regclass": ["'pg_class'"], "regtype": ["'integer'"], "regproc": ["'now'"], "pg_lsn": ["'FFFFFFFF/FFFFFFFF'"], "txid_snapshot": ["'10:20:10,14'"],
    "int[]": ["'[2:3]={1,NULL}'", "'{}'", "'{{1,2},{3,4}}'", "'[-1:0][5:5]={{1},{2}}'", "'{NULL,NULL}'"],
    "text[]": ["ARRAY['', 'NULL', NULL, 'null', E'a\"\\\\,{}', ' ', 'é']", "'{}'", "ARRAY[['a','b'],['c','']]", "ARRAY[E'\\n', ',', '\"']"],
    "timestamptz[]": ["'{2024-11-03 05:30+00,infinity,NULL}'"], "float8[]": ["'{0.1,-0,NaN,Infinity}'", "'{1e15}'"], "bytea[]": ["ARRAY['\\x00ff'::bytea, '']"],
    "numeric[]": ["'{1.0,NaN,1e30}'"], "boolean[]": ["'{t,f,NULL}'"], "date[]": ["'{2024-11-03,infinity}'"], "interval[]": ["'{1 mon,-1 day,00:00:01}'"],
    "jsonb[]": ["ARRAY['null'::jsonb, '{\"a\": \"b,\\\"\"}', NULL]"], "uuid[]": ["ARRAY[gen_random_uuid()]"], "\"char\"[]": ["ARRAY['a'::\"char\", '']"],
    "int4range": ["'[1,5)'", "'empty'", "'(,)'"], "numrange": ["'[1.0,1.50)'", "'(,0]'"], "daterange": ["'[2024-01-01,infinity]'"],
    "tsrange": ["'[2024-11-03 05:30,2024-11-03 06:30]'"], "tstzrange": ["'[2024-11-03 05:30+00,)'", "'empty'", "'[-infinity,infinity]'"],
    "int8multirange": ["'{[1,3),[5,9)}'", "'{}'"], "datemultirange": ["'{[2024-01-02,2024-01-05)}'"], "tstzmultirange": ["'{[2024-11-03 05:30+00,2024-11-04 00:00+00)}'"],
    "spans": ["'[-1 day,1 mon)'"], "floats": ["'[0.1,1e300)'", "'(-0,)'"], "tstzrange[]": ["ARRAY['[2024-11-03 05:30+00,)'::tstzrange, 'empty']"],
    "moment": ["'2024-11-03 05:30+00'"], "moments": ["'{2024-11-03 05:30+00}'", "'[0:0]={2024-11-03 05:30+00}'"],
    "pair": ["ROW('2024-11-03 05:30+00', '1 day -1 hour', 0.1, '\\xff', E'a\"\\\\,()')", "ROW(NULL, NULL, NULL, NULL, NULL)", "ROW(NULL, '-1 mon', '-0', '', '')"],
    "pair[]": ["ARRAY[ROW('2024-11-03 05:30+00', '1 day -1 hour', 0.1, '\\xff', 'é')::pair, NULL]"],
    "nest": ["ROW(ROW('2024-11-03 05:30+00', '1 mon', -0.1, '\\x00', '()')::pair, '[5:6]={1,2}', '2024-11-03 05:30+00')"],
    "mood": ["'so, \"so\"'", "''", "'null'", "'Ünlü'"], "mood[]": ["ARRAY['so, \"so\"', '', 'null']::mood[]"],
}  # fmt: skip
OF_EXTENSIONS = {
    "hstore": ("hstore", ['\'a=>NULL, "b \\""=>"NULL", ""=>""\'', "''"]),
    "citext": ("citext", ["'AbC'", "''"]),
    "vector": ("vector", ["'[0.1,-0,1e-30]'"]),
}
XML = ["'<a b=\"c\">é &amp; <![CDATA[x]]></a>'", "'<a/>'"]


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


REALS = [
    struct.unpack("d", struct.pack("q", bits * 0x5DEECE66D1234567 % 2**63))[0]
    for bits in range(1, 300 if TORTURE else 40)
]
STORED: list[Any] = [
    None, "", " ", "\0", "a\0b", "\0\0", "é", "𐍈" * 500, "NULL", "null", "1", "01", "1.0", "1e3", "-0", "0x10", "inf", "nan", "true",
    "\ufeff", "\u2028", "'", '"', "\\", "9223372036854775808", "-9223372036854775809", " 1", "1 ", "+1", "1_000", ".5", "5.",
    b"", b"\0", b"\xff\xfe", b"abc", b"1", bytes(range(256)), bytes(3000), 0, 1, -1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1,
    2**62, -(2**63), 2**63 - 1, 0.0, -0.0, 0.1, 1.0, 1e15, 1e16, 1e17, 123456789012345680.0, 9007199254740993.0, 5e-324, 2.2250738585072014e-308,
    1.7976931348623157e308, -1.7976931348623157e308, float("inf"), float("-inf"), 1 / 3, 9223372036854775807.0,
    *(each for each in REALS if each == each),
]  # fmt: skip
AFFINITIES = ["INTEGER", "INT", "REAL", "DOUBLE PRECISION", "NUMERIC", "DECIMAL(10,5)", "TEXT", "VARCHAR(10)", "BLOB", "", "DATETIME",
              "BOOLEAN", "JSON", "FLOATING POINT"]  # fmt: skip


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
        bits = [[struct.pack("d", v) for (v,) in db.client.execute(reals.format(column, name, columns[0]))]
                for name in (table, f"told_{table}")]  # fmt: skip
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
        "STRICT, WITHOUT ROWID", "t", "s",
    )  # fmt: skip
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
