"""On SQLite every change of a recorded table's row is an image, with the very values, whoever makes it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from actionbus import Bus, ConfigurationError
from actionbus.core.history.decoding import UNKNOWN
from actionbus.core.history.shapes import latest, sqlite_shapes
from actionbus.core.storage.names import quoted
from tests.core.history.capturing_sqlite import Recorded
from tests.shop.app import Base, make_application

EXTREMES = [
    None,
    "",
    "a\0b",
    "é" * 1000,
    b"",
    b"\0\xff",
    0,
    -(2**63),
    2**63 - 1,
    0.1,
    -0.0,
    1.7976931348623157e308,
    5e-324,
    float("inf"),
    float("-inf"),
    "1",
    "1.0",
    1.0,
    2**53 + 1,
]


@pytest.fixture
def db(sqlite_url: URL) -> Iterator[Recorded]:
    made = Recorded(sqlite_url)
    yield made
    made.client.close()
    made.bus.close()


COLUMNS = "a INTEGER, b REAL, c NUMERIC, d TEXT, e BLOB, f"


def test_values_of_every_class_in_columns_of_every_affinity(db: Recorded) -> None:
    db.made(f"CREATE TABLE t ({COLUMNS})", "t")
    for value in EXTREMES:
        db.client.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", [value] * 6)
    assert db.folded("t") == db.rows("t")
    db.client.execute("UPDATE t SET f = a, a = f")
    assert db.folded("t") == db.rows("t")
    db.client.execute("DELETE FROM t")
    assert not db.folded("t")


VALUE = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), *[VALUE] * 6), max_size=12))
def test_what_is_folded_is_what_stands_there(db: Recorded, changes: list[tuple[Any, ...]]) -> None:
    db.client.execute(f"CREATE TABLE IF NOT EXISTS p (id INTEGER PRIMARY KEY, {COLUMNS})")
    db.install("p")
    db.client.execute("BEGIN")
    for number, *values in changes:
        changed = ", ".join(f"{name} = excluded.{name}" for name in "abcdef")
        upsert = f"INSERT INTO p VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET {changed}"
        db.client.execute(upsert, (number, *values))
        if number == 3:
            db.client.execute("DELETE FROM p WHERE id = 3")
    db.client.execute("COMMIT")
    assert db.folded("p") == db.rows("p")


TABLES = {
    "strict": ("CREATE TABLE {t} (a INTEGER PRIMARY KEY, b TEXT) STRICT", 1),
    "without rowid": ("CREATE TABLE {t} (a TEXT PRIMARY KEY, b) WITHOUT ROWID", "1"),
    "composite key": ("CREATE TABLE {t} (a TEXT, b, PRIMARY KEY (b, a))", "'x','1'"),
    "no key": ("CREATE TABLE {t} (a, b)", None),
    "stored": ("CREATE TABLE {t} (a INTEGER PRIMARY KEY, b, c AS (b || a) STORED)", 1),
}
NAMES = ["t", "order", "with space", 'a"b', "a'b", "größe", "a.b", "a%s:b", "actionbus"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", TABLES)
def test_tables_of_every_form_and_name(db: Recorded, form: str, name: str) -> None:
    sql, key = TABLES[form]
    db.made(sql.format(t=quoted(name)), name)
    db.client.execute(f"INSERT INTO {quoted(name)} (a, b) VALUES ('1', 'x'), ('2', 'y')")
    db.client.execute(f"UPDATE {quoted(name)} SET b = b || 'z' WHERE a = 2")
    db.client.execute(f"UPDATE {quoted(name)} SET a = 3 WHERE a = 2")
    assert db.folded(name) == db.rows(name)
    assert db.images(name)[0][:2] == ("i", key)
    assert db.install(name) == []
    assert db.status(name)[0].is_whole


def test_a_virtual_column_is_absent_and_its_failing_is_nobodys(db: Recorded) -> None:
    db.client.executescript("CREATE TABLE t (a INTEGER PRIMARY KEY, j TEXT); INSERT INTO t VALUES (1, '{bad');")
    db.made("ALTER TABLE t ADD COLUMN v AS (json_extract(j, '$.x')) VIRTUAL", "t")
    db.client.execute("DELETE FROM t")
    assert [each[0] for each in db.images("t")] == ["b", "d"]
    assert db.status("t")[0].columns == ("a", "j")


def test_a_key_that_changes_is_a_delete_and_an_insert(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", "t")
    db.client.execute("INSERT INTO t VALUES (1, 'x')")
    db.client.execute("UPDATE t SET a = 2")
    db.client.execute("UPDATE t SET b = 'y'")
    assert [(op, key) for op, key, _, _ in db.images("t")] == [("i", 1), ("d", 1), ("i", 2), ("u", 2)]


def test_cascades_and_triggers_that_change_later_rows_of_a_statement(db: Recorded) -> None:
    """Whatever order the images come in, their sum is the table."""
    db.made(
        "CREATE TABLE up (a INTEGER PRIMARY KEY, b); CREATE TABLE down (up REFERENCES up ON DELETE CASCADE);"
        "CREATE TRIGGER aa AFTER INSERT ON up BEGIN UPDATE up SET b = 'changed'; END;",
        "up",
        "down",
    )
    db.client.execute(
        "CREATE TRIGGER zz AFTER UPDATE ON up WHEN NEW.a = 1 BEGIN UPDATE up SET b = 'z' WHERE a = 2; END"
    )
    db.client.execute("INSERT INTO up VALUES (2, 'b'), (1, 'a'), (3, 'c')")
    db.client.execute("INSERT INTO down VALUES (1), (2)")
    db.client.execute("DELETE FROM up WHERE a = 1")
    for table in ("up", "down"):
        assert db.folded(table) == db.rows(table)


def test_nothing_of_what_a_client_is_told_changes(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", "t")
    cursor = db.client.execute("INSERT INTO t (b) VALUES ('x'), ('y') RETURNING a")
    assert (cursor.fetchall(), cursor.lastrowid) == ([(1,), (2,)], 2)
    assert db.client.execute("UPDATE t SET b = 1").rowcount == 2
    assert db.client.execute("SELECT changes(), last_insert_rowid()").fetchone() == (2, 2)


@pytest.mark.parametrize("table", ["actionbus_images", "t", "actionbus_shapes"])
def test_temporary_tables_that_shadow_names_stand_in_no_way(db: Recorded, table: str) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", "t")
    db.client.execute(f"CREATE TEMP TABLE {table} (x)")
    db.client.execute("INSERT INTO main.t VALUES (1, 'x')")
    db.client.execute(f"DROP TABLE temp.{table}")
    assert db.folded("t") == db.rows("t") != Counter()


def test_through_an_attached_database(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b)", "t")
    other = sqlite3.connect(":memory:")
    other.execute("ATTACH ? AS shop", (db.path,))
    with other:
        other.execute("INSERT INTO shop.t VALUES (1, 'x')")
    other.close()
    assert db.folded("t") == db.rows("t") != Counter()


def test_replace_is_seen_where_triggers_are_recursive(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE)", "t")
    db.client.execute("PRAGMA recursive_triggers=ON")
    db.client.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    db.client.execute("INSERT OR REPLACE INTO t VALUES (1, 'y')")
    assert db.folded("t") == db.rows("t")


def test_images_and_shapes_are_neither_changed_nor_replaced(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY)", "t")
    db.client.execute("INSERT INTO t VALUES (1)")
    for sql in (
        "INSERT OR REPLACE INTO actionbus_images (image, shape, operation, at) VALUES (1, 1, 'd', 0)",
        "DELETE FROM actionbus_images",
        "UPDATE actionbus_images SET key = 2",
        "DELETE FROM actionbus_shapes",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.client.execute(sql)


def test_what_is_withheld_is_in_no_image_be_it_the_key(db: Recorded) -> None:
    db.client.execute("CREATE TABLE t (secret TEXT PRIMARY KEY, b)")
    db.install("t", withheld=("Secret",))
    db.client.execute("INSERT INTO t VALUES ('hidden', 1)")
    assert db.images("t") == [("i", None, None, (1,))]


class TestRenewal:
    """What a migration does to a table is told, and its history goes on."""

    @pytest.fixture(autouse=True)
    def table(self, db: Recorded) -> None:
        db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", "t")
        db.client.execute("INSERT INTO t VALUES (1, 'x')")

    @pytest.mark.parametrize(
        ("sql", "told", "is_anew"),
        [
            ("ALTER TABLE t ADD COLUMN c", "not recorded yet: c", False),
            ("ALTER TABLE t RENAME COLUMN b TO c", "not recorded yet: c", False),
            (
                "CREATE TABLE n (a INTEGER PRIMARY KEY, b TEXT); INSERT INTO n SELECT * FROM t; DROP TABLE t;"
                "ALTER TABLE n RENAME TO t",
                "are missing",
                True,
            ),
            ("DROP TRIGGER actionbus_u_t", "are missing", True),
            (
                "DROP TRIGGER actionbus_i_t; CREATE TRIGGER actionbus_i_t AFTER INSERT ON t BEGIN SELECT 1; END",
                "not those",
                True,
            ),
        ],
    )
    def test_is_told_and_ended(self, db: Recorded, sql: str, told: str, is_anew: bool) -> None:
        assert db.status("t")[0].is_whole
        db.client.executescript(sql)
        db.client.execute("UPDATE t SET a = 2")
        assert told in db.status("t")[0].problems[0]
        assert db.install("t") == ["t"]
        assert db.status("t")[0].is_whole
        with db.bus.engine.connect() as connection:
            assert latest(sqlite_shapes(connection, "main."))["t"].is_baseline is is_anew
        assert (db.images("t")[-1][0] == "b") is is_anew

    def test_a_renamed_column_is_the_same(self, db: Recorded) -> None:
        """Another that takes its old name is not; and the position of a migration is told by no clock."""
        Base.metadata.create_all(db.bus.engine)
        db.bus.execute("open_account", {"id": 1, "name": "x"}, actor="ann")
        at = db.bus.journal.settled()
        db.client.execute('ALTER TABLE t RENAME COLUMN b TO "a ""b"""')
        db.install("t")
        db.client.execute("ALTER TABLE t ADD COLUMN b")
        db.install("t")
        assert db.bus.history.state("t").tables["t"] == [{"a": 1, 'a "b"': "x", "b": UNKNOWN}]
        db.bus.execute("open_account", {"id": 2, "name": "y"}, actor="ann")
        assert db.bus.history.state("t").tables["t"] == [{"a": 1, 'a "b"': "x", "b": UNKNOWN}]
        assert db.bus.history.state("t", at).tables["t"] == [{"a": 1, "b": "x"}]

    def test_a_column_is_not_dropped_silently(self, db: Recorded) -> None:
        with pytest.raises(sqlite3.OperationalError, match="actionbus_"):
            db.client.execute("ALTER TABLE t DROP COLUMN b")

    def test_another_table_may_take_the_name_of_one_that_was_renamed(self, db: Recorded) -> None:
        db.client.executescript("ALTER TABLE t RENAME TO old; CREATE TABLE t (z)")
        assert db.install("t", "old") == ["t", "old"]
        db.client.executescript("INSERT INTO t VALUES (1); INSERT INTO old VALUES (2, 'y')")
        assert all(each.is_whole for each in db.status("t", "old"))
        assert db.folded("old") == db.rows("old")

    def test_a_table_that_is_gone_is_told(self, db: Recorded) -> None:
        db.client.execute("DROP TABLE t")
        assert "there is no table t" in db.status()[0].problems[0]


def test_a_table_with_rows_begins_with_a_copy_that_has_a_record(db: Recorded) -> None:
    db.made("CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'x'), (2, 'y')", "t")
    assert [each[0] for each in db.images("t")] == ["b", "b"]
    assert db.folded("t") == db.rows("t")
    (record,) = db.bus.journal.read()
    assert (record.kind, (record.context or {})["baseline"]) == ("bypass", ["t"])
    found = db.status("t")[0]
    assert (found.since_image, found.images) == (0, 2)
    assert found.bytes > 0


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT 1", "no table t"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "virtual"),
        (f"CREATE TABLE t ({', '.join(f'c{n}' for n in range(998))})", "998 columns"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_name(db: Recorded, sql: str, told: str) -> None:
    db.client.execute(sql)
    with pytest.raises(ConfigurationError, match=told):
        db.install("t")


def test_as_wide_a_table_as_there_is_room_for(db: Recorded) -> None:
    db.made(f"CREATE TABLE t ({', '.join(f'c{n}' for n in range(997))})", "t")
    db.client.execute("INSERT INTO t DEFAULT VALUES")
    db.client.execute("UPDATE t SET c5 = 1")
    assert db.folded("t") == db.rows("t")
    assert db.status("t")[0].bytes > 0


def test_in_memory() -> None:
    with Bus(make_application(), "sqlite://") as bus:
        bus.create()
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"})
        with bus.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM actionbus_images").scalar_one() > 0
