"""Capturing on PostgreSQL: whatever way a row is changed, there is an image of it, and no write fails for that."""

from __future__ import annotations

import pytest

from actionbus.core.history.shapes import TableWanted
from tests.core.history.capturing import HOSTILE, TABLE, Captured

CHANGES = {
    "one by one": ["INSERT INTO things VALUES (1, 'a')", "UPDATE things SET v = 'b'", "DELETE FROM things"],
    "one by one until a plan is kept, then all": [
        "INSERT INTO things SELECT g, g::text FROM generate_series(1, 20) g",
        *(f"UPDATE things SET v = v || '!' WHERE id = {number}" for number in range(1, 9)),
        "UPDATE things SET v = v || '?'",
        "UPDATE things SET id = 99 WHERE id = 1",
        "UPDATE things SET v = v || '!' WHERE id = 99",
    ],
    "in sets": [
        "INSERT INTO things SELECT g, 'x' || g FROM generate_series(1, 50) g",
        "UPDATE things SET v = v || '!' WHERE id > 5",
        "DELETE FROM things WHERE id % 2 = 0",
    ],
    "no change": [
        "INSERT INTO things VALUES (1, NULL)",
        "UPDATE things SET v = v",
        "UPDATE things SET v = '' WHERE id = 9",
    ],
    "upsert": [
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO things VALUES (2, 'c'), (3, 'd') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "INSERT INTO things VALUES (2, 'e') ON CONFLICT DO NOTHING",
    ],
    "merge": [
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "MERGE INTO things t USING (VALUES (1, 'x'), (2, NULL), (3, 'n')) s (id, v) ON s.id = t.id "
        "WHEN MATCHED AND s.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v "
        "WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)",
    ],
    "keys moved on": [
        "INSERT INTO things SELECT g, g::text FROM generate_series(1, 5) g",
        "UPDATE things SET id = id + 10",
    ],
    "keys swapped": [
        "ALTER TABLE things DROP CONSTRAINT things_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "UPDATE things SET id = 3 - id",
    ],
    "keys doubled for a while": [
        "ALTER TABLE things DROP CONSTRAINT things_pkey, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED",
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "UPDATE things SET id = 5",
        "UPDATE things SET v = v || '!'",
        "UPDATE things SET id = CASE v WHEN 'a!' THEN 1 ELSE 2 END",
    ],
    "cursor": [
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "DECLARE c CURSOR FOR SELECT * FROM things FOR UPDATE",
        "FETCH 2 FROM c",
        "UPDATE things SET v = 'c' WHERE CURRENT OF c",
    ],
    "view": [
        "CREATE VIEW seen AS SELECT * FROM things WHERE id > 1",
        "INSERT INTO seen VALUES (2, 'a')",
        "UPDATE seen SET v = 'b'",
    ],
    "savepoint": [
        "INSERT INTO things VALUES (1, 'a')",
        "SAVEPOINT s",
        "UPDATE things SET v = 'lost'",
        "ROLLBACK TO s",
        "INSERT INTO things VALUES (2, 'b')",
    ],
    "truncate": [
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "TRUNCATE things",
        "INSERT INTO things VALUES (3, 'c')",
    ],
    "as a replica": [
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO things VALUES (1, 'a')",
        "DELETE FROM things",
    ],
    "two in one": [
        "INSERT INTO things VALUES (1, 'a'), (2, 'b')",
        "WITH gone AS (DELETE FROM things WHERE id = 1 RETURNING *), more AS (UPDATE things SET v = 'z' WHERE id = 2) "
        "INSERT INTO things SELECT id + 10, v FROM gone",
    ],
}


NEED_A_KEY = {each for each, (first, *_) in CHANGES.items() if each == "upsert" or first.startswith("ALTER")}


@pytest.mark.parametrize(
    ("change", "keyed"),
    [(each, keyed) for each in CHANGES for keyed in (True, False) if keyed or each not in NEED_A_KEY],
)
def test_images_add_up_to_the_table(captured: Captured, change: str, keyed: bool) -> None:
    captured.run(TABLE if keyed else TABLE.replace(" PRIMARY KEY", ""))
    statements = CHANGES[change]
    if statements[0].startswith("ALTER"):
        captured.run(statements[0])
    captured.install("things")
    captured.run(*(each for each in statements if not each.startswith("ALTER")))
    assert captured.folded("things") == captured.actual("things")
    assert captured.folded("things") or change == "one by one" or change == "as a replica"
    assert len(captured.bypasses()) == 1
    assert "!" not in captured.operations()


def test_copy_is_captured(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    raw = captured.bus.engine.raw_connection()
    raw.cursor().execute("COPY things FROM PROGRAM 'echo 1,a; echo 2,b' WITH (FORMAT csv)")
    raw.commit()
    raw.close()
    assert captured.folded("things") == captured.actual("things")


def test_a_trigger_that_changes_a_later_row_of_the_statement(captured: Captured) -> None:
    """The order of images is not that of execution: the sum does not mind."""
    captured.run(
        TABLE,
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN UPDATE things SET v = 'changed' WHERE id = NEW.id + 1; RETURN NULL; END$$",
        'CREATE TRIGGER " first" AFTER INSERT ON things FOR EACH ROW EXECUTE FUNCTION meddle()',
    )
    captured.install("things")
    captured.run("INSERT INTO things VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert captured.folded("things") == captured.actual("things")


def test_what_foreign_keys_change_is_captured(captured: Captured) -> None:
    captured.run(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE gone (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE cut (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE split (id int, a int REFERENCES a ON DELETE CASCADE) PARTITION BY LIST (id)",
        "CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1)",
    )
    captured.install("a", "gone", "cut", "split")
    captured.run(
        "INSERT INTO a VALUES (1), (2)",
        *(f"INSERT INTO {t} VALUES (1, 1)" for t in ("gone", "split")),
        "INSERT INTO cut VALUES (1, 2)",
    )
    captured.run("UPDATE a SET id = 3 WHERE id = 1 AND NOT EXISTS (SELECT FROM split WHERE a = 1)", "DELETE FROM a")
    assert not captured.rows(
        "SELECT 1 FROM gone UNION ALL SELECT 1 FROM split UNION ALL SELECT 1 FROM cut WHERE a IS NOT NULL"
    )
    for table in ("a", "gone", "cut", "split"):
        assert captured.folded(table) == captured.actual(table), table


def test_partitions_are_captured_whoever_names_them(captured: Captured) -> None:
    """Through the root, by a leaf of other column order, moved from one to another, truncated alone."""
    captured.run(
        "CREATE TABLE parts (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a')",
        "CREATE TABLE parts_b (v text, gone int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region))",
        "ALTER TABLE parts_b DROP COLUMN gone",
        "ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b')",
    )
    captured.install("parts")
    captured.run("INSERT INTO parts VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'b', 'z')")
    captured.run("INSERT INTO parts_b (id, region, v) VALUES (4, 'b', 'w')", "UPDATE parts_a SET v = 'leaf'")
    captured.run("UPDATE parts SET region = 'a' WHERE id = 2")
    assert captured.folded("parts") == captured.actual("parts")
    captured.run("TRUNCATE parts_b")
    assert captured.folded("parts") == captured.actual("parts")
    captured.run("CREATE TABLE parts_c PARTITION OF parts FOR VALUES IN ('c')")
    assert any("parts_c" in problem for problem in captured.status("parts")[0].problems)
    assert captured.install("parts") == ["public.parts"]
    assert captured.status("parts")[0].is_whole
    assert len(captured.rows("SELECT 1 FROM actionbus_shapes")) == 1
    captured.run("INSERT INTO parts_c VALUES (9, 'c', 'n')", "TRUNCATE parts")
    assert captured.folded("parts") == captured.actual("parts") == {}


def test_children_have_images_of_their_own(captured: Captured) -> None:
    captured.run(TABLE, "CREATE TABLE kids (toy text) INHERITS (things)")
    captured.install("things")
    captured.run(
        "INSERT INTO things VALUES (1, 'a')", "INSERT INTO kids VALUES (2, 'b', 'ball')", "UPDATE things SET v = 'c'"
    )
    assert captured.folded("things") == captured.actual("things", only=True)
    assert captured.folded("kids") == captured.actual("kids") != {}
    captured.run("TRUNCATE things")
    assert captured.folded("things") == captured.folded("kids") == {}


def test_a_write_made_whole_at_prepare_is_one_bypass_at_its_commit(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    raw = captured.bus.engine.raw_connection()
    raw.dbapi_connection.autocommit = True
    cursor = raw.cursor()
    cursor.execute("BEGIN; INSERT INTO things VALUES (1, 'a'); PREPARE TRANSACTION 'later'")
    assert captured.bypasses() == captured.images() == []
    cursor.execute("COMMIT PREPARED 'later'")
    raw.close()
    assert len(captured.bypasses()) == len(captured.images()) == 1


def test_writes_after_constraints_are_immediate_make_a_second_record(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    captured.run("INSERT INTO things VALUES (1, 'a')", "SET CONSTRAINTS ALL IMMEDIATE", "UPDATE things SET v = 'b'")
    assert [upto for _, upto, _ in captured.bypasses()] == [1, 2]
    assert captured.rows("SELECT * FROM actionbus_bypasses") == []


def test_an_action_s_images_name_it_and_make_no_bypass(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    captured.run("SELECT set_config('actionbus.action', 'abc', true)", "INSERT INTO things VALUES (1, 'a')")
    captured.run("INSERT INTO things VALUES (2, 'b')")  # on the same connection, where the setting is '' now
    assert captured.images("action") == [("abc",), (None,)]
    assert len(captured.bypasses()) == 1


VALUES = {
    "smallint": ["-32768", "NULL"],
    "bigint": ["9223372036854775807"],
    "numeric": ["'NaN'", "1e-300", "1e130", "1.0", "1.00"],
    "real": ["'-0'", "'1e-45'", "'NaN'", "3.4028235e38"],
    "double precision": ["'-0'", "5e-324", "'Infinity'", "0.1"],
    "text": ["''", "'NULL'", "E'a\\n\"b\\\\,('", "repeat('x', 3000)", "'é€𐍈'"],
    "char(5)": ["'a'"],
    "varchar(20)": ["' a '"],
    "bytea": ["'\\x00ff5c'", "''"],
    "boolean": ["true"],
    "uuid": ["gen_random_uuid()"],
    "date": ["'0044-03-15 BC'", "'infinity'", "'2024-11-03'"],
    "time": ["'24:00'"],
    "timetz": ["'12:00+05:30:15'"],
    "timestamp": ["'2024-11-03 01:30:00.123456'", "'-infinity'"],
    "timestamptz": ["'2024-11-03 05:30:00+00'", "'2024-11-03 06:30:00+00'", "'4713-01-01 00:00+00 BC'"],
    "interval": ["'-1 year 2 days -03:04:05.678'"],
    "json": ['\'{"a":1,"a": 1e400}\'', "'\"\\u0000\"'", "'null'"],
    "jsonb": ["'null'", '\'{"b": [1.0, "é"]}\''],
    "inet": ["'::1/64'"],
    "bit varying": ["B'101'"],
    "money": ["1234.56"],
    "point": ["'(0.1,-0)'"],
    "tsvector": ["'a:1 b'"],
    "regclass": ["'pg_class'"],
    "int[]": ["'[2:3]={1,NULL}'", "'{}'"],
    "timestamptz[]": ["'{2024-11-03 05:30+00}'"],
    "float8[]": ["'{0.1,-0}'"],
    "tstzrange": ["'[2024-11-03 05:30+00,)'", "'empty'"],
    "datemultirange": ["'{[2024-01-02,2024-01-05)}'"],
    "moment": ["'2024-11-03 05:30+00'"],
    "pair": ["ROW('2024-11-03 05:30+00', '1 day -1 hour', 0.1, '\\xff')"],
    "pair[]": ["ARRAY[ROW('2024-11-03 05:30+00', '1 day -1 hour', 0.1, '\\xff')::pair]"],
    "mood": ["'so, \"so\"'"],
}


def test_every_type_comes_back_as_it_was_whatever_the_writer_s_settings(captured: Captured) -> None:
    """Compared as bytes, in another session with settings of its own."""
    captured.run(
        "CREATE DOMAIN moment AS timestamptz",
        "CREATE TYPE pair AS (at timestamptz, took interval, x float8, b bytea)",
        "CREATE TYPE mood AS ENUM ('so, \"so\"')",
    )
    tables = {f"t{number}": kind for number, kind in enumerate(VALUES)}
    captured.run(*(f"CREATE TABLE {table} (id int, v {kind})" for table, kind in tables.items()))
    captured.install(*tables)
    filled = [
        f"INSERT INTO {table} VALUES ({number}, CAST({value} AS {kind}))"
        for table, kind in tables.items()
        for number, value in enumerate(VALUES[kind])
    ]
    captured.run(
        HOSTILE.replace("; SET xmloption = document", "").replace("SET ", "SET LOCAL "),
        *filled,
        *(f"UPDATE {table} SET v = v" for table in tables),
    )
    for table in tables:
        lost = captured.rows(
            f"SELECT t.id, t.v::text FROM {table} t WHERE (SELECT count(*) FROM actionbus_images i "
            f"JOIN actionbus_shapes s USING (shape) WHERE s.table_name = 'public.{table}' AND "
            f"(i.after::{table}).id = t.id AND i.after::{table} *= t) <> 2"
        )
        assert lost == [], tables[table]
    assert "!" not in captured.operations()


@pytest.mark.parametrize("lost", ["parts_ab", "parts_c"])
def test_a_new_partition_is_no_excuse_for_a_trigger_that_was_lost(captured: Captured, lost: str) -> None:
    """Were the two told apart by the names in sentences, `parts_ab` would pass for the new `parts_a`."""
    captured.run(
        "CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY LIST (id)",
        "CREATE TABLE parts_ab PARTITION OF parts FOR VALUES IN (1)",
        "CREATE TABLE parts_c PARTITION OF parts FOR VALUES IN (2)",
    )
    captured.install("parts")
    captured.run("INSERT INTO parts VALUES (1, 'a'), (2, 'b')", f'DROP TRIGGER "!actionbus_update" ON {lost}')
    captured.run(f"UPDATE {lost} SET v = 'unseen'", "CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN (3)")
    assert captured.install("parts") == ["public.parts"]
    assert captured.folded("parts") == captured.actual("parts")
    assert captured.operations() == "iibb"


DRIFTS = {
    "renamed": "ALTER TABLE things RENAME v TO w",
    "dropped": "ALTER TABLE things DROP v",
    "of another type": "ALTER TABLE things ALTER v TYPE timestamptz USING '2024-11-03 05:30+00'",
    "key renamed": "ALTER TABLE things RENAME id TO number",
    "no key any more": "ALTER TABLE things DROP CONSTRAINT things_pkey",
}


@pytest.mark.parametrize("by_row", [False, True], ids=["by statement", "by row"])
@pytest.mark.parametrize("drift", DRIFTS)
def test_columns_that_changed_without_renewal_do_not_break_writes(captured: Captured, drift: str, by_row: bool) -> None:
    captured.run(
        TABLE, "ALTER TABLE things ADD secret text", *(["CREATE TABLE kids () INHERITS (things)"] if by_row else [])
    )
    captured.run("INSERT INTO things VALUES (1, '2', 'hush')")
    captured.install(TableWanted("things", withheld=("secret",)))
    captured.run(DRIFTS[drift], *(["ALTER TABLE things RENAME secret TO hidden"] if "renamed" in drift else []))
    first = captured.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'things'::regclass AND attnum = 1")[0][0]
    captured.run(
        "SET LOCAL TimeZone = 'America/New_York'",
        f"INSERT INTO things ({first}) VALUES (7)",
        f"UPDATE things SET {first} = 8 WHERE {first} = 7",
        "TRUNCATE things",
    )
    operations = captured.operations()
    assert operations == "bididdd"[: len(operations)]
    assert "!" not in operations
    assert "hush" not in str(captured.images())
    assert operations.startswith("bi")
    columns = captured.rows("SELECT columns, is_drifted FROM actionbus_shapes ORDER BY shape DESC LIMIT 1")[0]
    assert columns[1] is (drift != "no key any more")
    problems = captured.status()[-1].problems
    assert problems
    captured.install(TableWanted("things", withheld=("hidden" if "renamed" in drift else "secret",)))
    captured.run(f"INSERT INTO things ({first}) VALUES (9)")
    assert captured.images("operation")[-1] == ("i",)
    assert captured.status("things")[0].since is not None


def test_a_large_or_long_key_is_no_reason_to_refuse_a_row(captured: Captured) -> None:
    captured.run("CREATE TABLE things (id text PRIMARY KEY, v bytea)")
    captured.install("things")
    captured.run(
        # Shorter than an index takes, and longer once its quotes are doubled.
        "INSERT INTO things SELECT left(string_agg(translate(encode(sha512(g::text::bytea), 'base64'), "
        "E'ABCDEFGH\\n', repeat('\"', 8)), ''), 2600), 'x' FROM generate_series(1, 40) g",
        "INSERT INTO things VALUES ('large', convert_to(repeat('abc', 200000), 'UTF8'))",
        "UPDATE things SET v = v || 'y'",
    )
    assert captured.operations() == "iiuu"
    assert captured.folded("things") == captured.actual("things")
    assert len({key for (key,) in captured.images("key")}) == 2


SABOTAGE = {
    "no privilege": "REVOKE ALL ON actionbus_images FROM keeper",
    "no table": "ALTER TABLE actionbus_images RENAME TO elsewhere",
    "nothing for bypasses": "DROP TABLE actionbus_bypasses CASCADE",
    "no drift function": "DROP FUNCTION actionbus_drifted; ALTER TABLE things RENAME v TO w",
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_whatever_is_broken_the_application_writes(captured: Captured, how: str) -> None:
    captured.run(TABLE)
    captured.install("things")
    owned = (
        "DO $$DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proname LIKE 'actionbus_image_%' "
        "LOOP EXECUTE 'ALTER FUNCTION ' || f || ' OWNER TO keeper'; END LOOP; END$$"
    )
    captured.run(
        "DROP ROLE IF EXISTS keeper",
        "CREATE ROLE keeper",
        "GRANT CREATE, USAGE ON SCHEMA public TO keeper",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO keeper",
    )
    try:
        captured.run(*([owned] if how == "no privilege" else []), *SABOTAGE[how].split("; "))
        captured.run(
            "INSERT INTO things VALUES (1, 'a')", "UPDATE things SET id = 2", "DELETE FROM things", "TRUNCATE things"
        )
        assert captured.rows("SELECT * FROM things") == []
        if how == "no drift function":
            assert captured.operations() == "!!!!"
    finally:
        captured.run("REASSIGN OWNED BY keeper TO CURRENT_USER", "DROP OWNED BY keeper", "DROP ROLE keeper")
