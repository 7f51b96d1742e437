"""What no trigger sees, or what is restored elsewhere: it is named by the status and by answers, and a baseline ends it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.history.install import remove
from actionbus.core.history.shapes import TableWanted
from tests.core.history.capturing import Captured
from tests.core.history.told.byhand import Book
from tests.core.history.told.conftest import postgres_book
from tests.servers import Server
from tests.shop.app import make_application

__all__ = ["postgres_book"]
TABLE = "CREATE TABLE things (id int PRIMARY KEY, v text)"


def plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def program(server: Server, name: str) -> str:
    return str(server.program(name) or name)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A new cluster, which numbers its transactions anew."""
    made = Server("autovacuum = off\n")
    yield made
    made.close()


def told(bus: Bus, at: int | None = None) -> Counter[Any]:
    return Counter(tuple(row.values()) for row in bus.history.state("things", at).tables["public.things"])


def test_a_restored_dump_in_which_transaction_numbers_repeat(
    captured: Captured, server: Server, postgres_url: URL, elsewhere: Server
) -> None:
    """Images stay with the records of the first cluster, new ones with those of the second."""
    _until(captured, 5_000)  # a new cluster begins with fewer
    captured.run(TABLE)
    captured.install("things")
    captured.run("INSERT INTO things SELECT g, 'a' FROM generate_series(1, 3) g")
    for number in (1, 2, 3):
        captured.run(f"UPDATE things SET v = 'first {number}' WHERE id = {number}")
    positions = range(captured.bus.journal.settled() + 1)
    before = {at: told(captured.bus, at) for at in positions if at}
    whose = {at: len(captured.bus.history.changes(at).changes) for at in positions if at}
    numbers = [xid for (xid,) in captured.rows("SELECT DISTINCT xid FROM actionbus_images ORDER BY xid")]
    captured.run("SELECT pg_current_xact_id()")
    dumped = subprocess.run([program(server, "pg_dump"), plain(postgres_url)], capture_output=True, check=True)
    other = elsewhere.database()
    restore = [program(server, "psql"), "-qX", "-v", "ON_ERROR_STOP=1", plain(other)]
    subprocess.run(restore, input=dumped.stdout, capture_output=True, check=True)
    bus = Bus(make_application(), other)
    again = Captured(bus)
    if again.status("things")[0].problems:
        again.install("things")
    _until(again, numbers[0])
    repeated = []
    for number in range(20):
        again.run(f"UPDATE things SET v = 'second {number}' WHERE id = {number % 3 + 1}")
        repeated.append(again.rows("SELECT max(position) FROM journal")[0][0])
        assert told(bus) == Counter(again.rows("SELECT * FROM things"))
    twice = {xid for (xid,) in again.rows("SELECT xid FROM actionbus_images GROUP BY xid HAVING count(*) > 1")}
    assert len(twice & set(numbers)) > len(numbers) // 2  # a server takes one for itself now and then
    for at in repeated:
        assert len(bus.history.changes(at).changes) == 1, at
    for at, rows in before.items():
        assert told(bus, at) == rows, at
        assert len(bus.history.changes(at).changes) == whose[at], at
    bus.close()


def _until(captured: Captured, number: int) -> None:
    """Let the cluster come near a transaction's number."""
    now = captured.rows("SELECT pg_current_xact_id()::text::bigint")[0][0]
    assert now < number or number == 5_000, "the new cluster is ahead of the old one"
    raw = captured.bus.engine.raw_connection()
    raw.dbapi_connection.autocommit = True
    raw.cursor().execute(
        f"DO $$BEGIN WHILE pg_current_xact_id()::text::bigint < {number - 3} LOOP COMMIT; END LOOP; END$$"
    )
    raw.dbapi_connection.autocommit = False
    raw.close()


def test_a_gap_of_a_table_that_is_not_known_is_one_of_every_table(postgres_book: Book) -> None:
    shape = postgres_book.shape("items", "id name")
    postgres_book.image(shape, None, (1, "a"), xid=5)
    postgres_book.record("bypass", xid=5)
    postgres_book.nameless(xid=6)
    at = postgres_book.record("bypass", xid=6)
    assert [(gap.table, gap.position) for gap in postgres_book.history.state("items").basis.gaps] == [
        ("public.items", at)
    ]
    assert len(postgres_book.history.rows("items", 1).changes) == 1
    assert [each.operation for each in postgres_book.history.changes(at).changes] in ([], ["gap"])


def test_what_was_written_while_triggers_were_off_is_a_gap_once_a_row_shows_it(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    captured.run("INSERT INTO things VALUES (1, 'a'), (2, 'b')")
    captured.run(
        "ALTER TABLE things DISABLE TRIGGER ALL",
        "UPDATE things SET v = 'unseen'",
        "INSERT INTO things VALUES (3, 'c')",
        "ALTER TABLE things ENABLE TRIGGER ALL",
    )
    assert "ENABLE ALWAYS" in captured.status("things")[0].problems[0]
    captured.run("UPDATE things SET v = v || '!' WHERE id = 1", "DELETE FROM things WHERE id = 3")
    answer = captured.bus.history.state("things")
    assert {gap.key["id"] for gap in answer.basis.gaps} == {1, 3}
    assert {"id": 1, "v": "unseen!"} in answer.tables["public.things"]
    captured.install("things")
    assert captured.bus.history.state("things").basis.gaps == ()
    assert told(captured.bus) == Counter(captured.rows("SELECT * FROM things"))


def test_pg_restore_with_triggers_disabled_is_named(
    captured: Captured, server: Server, postgres_url: URL, tmp_path: Path
) -> None:
    captured.run(TABLE, "INSERT INTO things VALUES (1, 'a')")
    captured.install("things")
    file = str(tmp_path / "dump")
    dump = [program(server, "pg_dump"), "-Fc", "--data-only", "-t", "things", "-f", file, plain(postgres_url)]
    subprocess.run(dump, check=True)
    captured.run("DELETE FROM things")
    restore = [program(server, "pg_restore"), "--data-only", "--disable-triggers", "-d", plain(postgres_url), file]
    subprocess.run(restore, check=True)
    assert captured.rows("SELECT * FROM things") == [(1, "a")]
    assert captured.operations() == "bd"
    assert not captured.status("things")[0].is_whole
    captured.install("things")
    assert captured.status("things")[0].is_whole
    assert told(captured.bus) == {(1, "a"): 1}


PARTS = [
    "CREATE TABLE things (id int, v text, PRIMARY KEY (id, v)) PARTITION BY LIST (v)",
    "CREATE TABLE things_a PARTITION OF things FOR VALUES IN ('a')",
    "CREATE TABLE things_b PARTITION OF things FOR VALUES IN ('b')",
]


def test_attaching_a_partition_with_rows_is_named_and_a_baseline_ends_it(captured: Captured) -> None:
    captured.run(*PARTS)
    captured.install("things")
    captured.run(
        "INSERT INTO things VALUES (1, 'a')",
        "CREATE TABLE more (id int NOT NULL, v text NOT NULL)",
        "INSERT INTO more VALUES (7, 'c')",
        "ALTER TABLE things ATTACH PARTITION more FOR VALUES IN ('c')",
    )
    assert any("more" in each for each in captured.status("things")[0].problems)
    captured.install("things")
    assert captured.status("things")[0].is_whole
    assert told(captured.bus) == Counter(captured.rows("SELECT * FROM things")) == {(1, "a"): 1, (7, "c"): 1}


def test_detaching_a_partition_with_rows_is_named_and_a_baseline_ends_it(captured: Captured) -> None:
    """Its rows are gone from the table, though nobody deleted them; what is written to it is the table's no longer."""
    captured.run(*PARTS)
    captured.install("things")
    captured.run("INSERT INTO things VALUES (1, 'a'), (2, 'b')")
    captured.run("ALTER TABLE things DETACH PARTITION things_b")
    assert any("things_b" in each for each in captured.status("things")[0].problems)
    captured.run("INSERT INTO things_b VALUES (9, 'b')")
    captured.install("things")
    assert captured.status("things")[0].is_whole
    captured.run("UPDATE things_b SET id = id + 1", "TRUNCATE things_b")
    assert told(captured.bus) == Counter(captured.rows("SELECT * FROM things")) == {(1, "a"): 1}


def test_another_journal_of_the_database_has_partitions_of_its_own(captured: Captured, postgres_url: URL) -> None:
    """Its shapes have the same numbers. And who records no more takes the triggers of what was detached along."""
    made = (
        "CREATE TABLE {0} (id int PRIMARY KEY) PARTITION BY RANGE (id); "
        "CREATE TABLE {0}_low PARTITION OF {0} FOR VALUES FROM (1) TO (10)"
    )
    captured.run("CREATE SCHEMA other", made.format("here"), made.format("other.there"))
    captured.install("here")
    with Bus(make_application(), postgres_url, schema="other") as bus:
        bus.journal.create()
        there = Captured(bus)
        there.install(TableWanted("there", "other"))
        numbers = (
            "SELECT DISTINCT split_part(proname, '_', 3) FROM pg_proc WHERE proname LIKE 'actionbus_image_%_insert'"
        )
        assert len(captured.rows(numbers)) == 1
        assert captured.status()[0].problems == there.status()[0].problems == ()
        captured.run("ALTER TABLE here DETACH PARTITION here_low")
        assert "unseen with public.here_low" in captured.status()[0].problems[0]
        assert there.status()[0].is_whole
        with captured.bus.engine.begin() as connection:
            assert remove(captured.bus.backend, connection, [TableWanted("here")]) == ["public.here"]
        captured.run("INSERT INTO here_low VALUES (1)")
        assert captured.images() == []


def test_dropping_a_partition_with_rows_is_named_and_a_baseline_ends_it(captured: Captured) -> None:
    captured.run(*PARTS)
    captured.install("things")
    captured.run("CREATE TABLE things_c PARTITION OF things FOR VALUES IN ('c')")
    captured.install("things")
    captured.run("ALTER TABLE things_a RENAME TO renamed", "ALTER TABLE renamed SET SCHEMA public")
    assert captured.status("things")[0].is_whole
    captured.run("INSERT INTO things VALUES (1, 'a'), (2, 'b'), (3, 'c')", "DROP TABLE things_b", "DROP TABLE things_c")
    problems = captured.status("things")[0].problems
    assert [name for name in ("renamed", "things_b", "things_c") if name in "".join(problems)] == [
        "things_b",
        "things_c",
    ]
    captured.install("things")
    assert captured.status("things")[0].is_whole
    assert told(captured.bus) == {(1, "a"): 1}
