"""The row history out of one database and into another: what is told there is what was told here."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from actionbus import Bus, History, HistoryError
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from actionbus.core.storage.ddl import verbatim
from actionbus.replay import ReplayError
from actionbus.replay.archives.lines import header
from actionbus.replay.archives.transfer import export, import_into
from tests.conftest import create_tables
from tests.core.history.told.byhand import Book
from tests.helpers import Run
from tests.servers import Server
from tests.shop.app import make_application


def write(bus: Bus, *statements: str) -> None:
    with bus.engine.begin() as connection:
        for each in statements:
            connection.execute(verbatim(each))


def record(bus: Bus, *tables: str) -> None:
    with bus.engine.begin() as connection:
        install(bus.backend, connection, [TableWanted(each) for each in tables], baseline=False)


def lived(url: URL) -> Bus:
    """A history of actions, of bypasses, of a table without key that has rows before, and of a column that came later."""
    bus = Bus(make_application(), url)
    bus.create()
    write(bus, "CREATE TABLE words (word TEXT, held REAL)", "INSERT INTO words VALUES ('old', 1.5), ('old', 1.5)")
    record(bus, "words")
    chance = random.Random(7)
    for number in range(6):
        bus.execute("open_account", {"id": number, "name": f"n{number}"}, actor="ann")
    for number in range(24):
        bus.execute("deposit", {"id": chance.randrange(6), "amount": number + 1})
        if number % 5 == 0:
            write(
                bus,
                "UPDATE accounts SET balance = balance + 1 WHERE id % 2 = 0",
                "INSERT INTO words VALUES ('w', NULL)",
            )
        if number == 12:
            write(bus, "DELETE FROM words WHERE word = 'old'", "ALTER TABLE accounts ADD COLUMN note TEXT DEFAULT 'ü'")
            record(bus, "accounts")
    if url.get_backend_name() == "sqlite":
        # Not UTF-8, bytes, an infinity, a negative nothing.
        write(bus, "INSERT INTO words VALUES (CAST(x'ff41' AS TEXT), 9e999), (x'00ff', -0.0), ('nul' || char(0), 1)")
    else:
        write(bus, """INSERT INTO words VALUES ('a "quoted", (one) \\', 'NaN'), ('', '-Infinity')""")
    bus.execute("deposit", {"id": 1, "amount": 100})
    return bus


def told(history: History, at: int) -> Any:
    """All that is told of a position, but for numbers of transactions."""
    state = {name: sorted(map(repr, rows)) for name, rows in history.state(at=at).tables.items()}
    changes = [
        (each.operation, repr(each.before), repr(each.after), each.who.shown()["position"], each.who.shown()["bypass"])
        for each in history.rows("accounts", 2, at).changes
    ]
    blamed = [
        (each.column, each.value, each.change.who.shown()) for each in history.blame("accounts", 1, at=at).columns
    ]
    basis = history.state(at=at).basis
    # How the tables stand by now is no part of the past: those of an import have no triggers yet.
    tables = tuple(replace(each, problems=(), unrecorded_since=None) for each in basis.tables)
    return state, changes, blamed, repr(replace(basis, tables=tables, unrecorded=()))


def bisected(history: History, sql: str) -> int | None:
    source = history.bisect(sql).source
    return source and source.position


def test_what_is_told_of_an_import_is_what_was_told_of_the_original(url: URL, elsewhere: Bus, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    with lived(url) as bus:
        steps: list[int] = []
        count = export(bus.journal, path, history=bus.history, progress=lambda: steps.append(1))
        assert len(steps) > count == bus.journal.count(kind=None)
        assert header(path)["history"] is True
        taken: list[int] = []
        assert import_into(elsewhere, path, lambda: taken.append(1)) == count
        assert len(taken) == len(steps)
        end, begin = bus.journal.last(), bus.history.rows("accounts", 2).changes[0].who.source
        assert begin is not None
        for at in [*random.Random(1).sample(range(begin.position, end), 12), end]:
            assert told(elsewhere.history, at) == told(bus.history, at)
            lower = random.Random(at).randint(begin.position, at)
            ours, theirs = bus.history.diff(lower, at), elsewhere.history.diff(lower, at)
            assert sorted(map(repr, ours.rows)) == sorted(map(repr, theirs.rows))
        for sql in ("SELECT count(*) > 4 FROM words", "SELECT max(balance) > 90 FROM accounts"):
            assert bisected(elsewhere.history, sql) == bisected(bus.history, sql) is not None
        with pytest.raises(ReplayError, match="is not empty"):
            import_into(elsewhere, path)


def test_after_an_import_history_goes_on_and_begins_anew_with_what_is_there(
    url: URL, elsewhere: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "journal.gz"
    with lived(url) as bus:
        export(bus.journal, path, history=bus.history)
        import_into(elsewhere, path)
        create_tables(elsewhere.engine)
        write(elsewhere, "ALTER TABLE accounts ADD COLUMN note TEXT")
        with bus.engine.begin() as ours, elsewhere.engine.begin() as theirs:
            for row in ours.execute(text("SELECT id, name, balance, note FROM accounts")).mappings():
                theirs.execute(text("INSERT INTO accounts VALUES (:id, :name, :balance, :note)"), dict(row))
        record(elsewhere, "accounts", "entries")
        end = bus.journal.last()
        before = {at: told(bus.history, at) for at in (end // 2, end)}
        states = {}
        for number in range(6):
            at = elsewhere.execute("deposit", {"id": number % 3, "amount": 7}).position
            if number % 2:
                write(elsewhere, "UPDATE accounts SET balance = balance - 3 WHERE id = 2")
            with elsewhere.engine.connect() as connection:
                found = connection.execute(text("SELECT id, name, balance, note FROM accounts")).mappings()
                states[at if not number % 2 else None] = sorted(map(repr, map(dict, found)))
        for position, expected in states.items():
            assert (
                sorted(map(repr, next(iter(elsewhere.history.state("accounts", position).tables.values())))) == expected
            )
        assert {at: told(elsewhere.history, at) for at in before} == before
        assert elsewhere.history.rows("accounts", 2).changes[0].operation == "baseline"
        assert elsewhere.history.state("accounts").basis.gaps == ()


def test_numbers_of_transactions_that_come_again_are_not_taken_for_the_imported_ones(
    server: Server, tmp_path: Path
) -> None:
    """Another cluster goes on with its own: it may give any of the numbers of the first once more."""
    urls = [server.database(), server.database()]
    books = [Book(each) for each in urls]
    old, new = books
    shape = old.shape("items", "id name", xid=3)
    slow = uuid4()
    old.image(shape, None, (1, "slow"), action=slow, xid=100)
    old.image(shape, None, (2, "quick"), xid=101)
    first = old.record("bypass", xid=101)
    second = old.record(action_id=slow, xid=100, seen="101:102:")
    path = tmp_path / "journal.gz"
    export(old.bus.journal, path, history=old.history)
    import_into(new.bus, path)
    new._shapes, new._keys = old._shapes, old._keys
    # Lower numbers than those of imported snapshots, and the same ones: 60 runs on while 100 and 101 end.
    new.image(shape, (1, "slow"), (1, "later"), xid=60)
    new.image(shape, None, (3, "again"), xid=100)
    third = new.record("bypass", xid=100, seen="60:101:60")
    new.image(shape, (2, "quick"), (2, "changed"), xid=101)
    fourth = new.record("bypass", xid=101, seen="60:102:60")
    fifth = new.record("bypass", xid=60, seen="60:102:")
    names = {at: {each["name"] for each in new.state("items", at)} for at in (first, second, third, fourth, fifth)}
    assert names == {
        first: {"quick"},
        second: {"slow", "quick"},
        third: {"slow", "quick", "again"},
        fourth: {"slow", "changed", "again"},
        fifth: {"later", "changed", "again"},
    }
    whose = {each.who.source.position for key in (1, 2, 3) for each in new.history.rows("items", key).changes}  # type: ignore[union-attr]
    assert whose == {first, second, third, fourth, fifth}
    again = tmp_path / "again.gz"
    export(new.bus.journal, again, history=new.history)
    third_book = Book(server.database())
    books.append(third_book)
    import_into(third_book.bus, again)
    for at in names:
        assert third_book.state("items", at) == new.state("items", at)
    for book in books:
        place = book.bus.engine.url
        book.close()
        server.drop(place)


def test_a_history_goes_into_the_same_kind_of_database_of_which_nothing_is_recorded(
    url: URL, elsewhere: Bus, server: Server, tmp_path: Path
) -> None:
    path, kind = tmp_path / "journal.gz", url.get_backend_name()
    with lived(url) as bus:
        count = export(bus.journal, path, history=bus.history)
        with pytest.raises(ReplayError, match="of a range that begins later"):
            export(bus.journal, tmp_path / "x.gz", after=3, history=bus.history)
    place = server.database() if kind == "sqlite" else make_url("sqlite://")
    with Bus(make_application(), place) as unlike:
        unlike.journal.create()
        with pytest.raises(ReplayError, match=rf"history of a database on {kind}.*--without-history"):
            import_into(unlike, path)
        assert import_into(unlike, path, history=False) == count
        assert unlike.history.state().tables == {}
    if kind == "sqlite":
        server.drop(place)
    elsewhere.create()
    before = elsewhere.journal.last()
    with pytest.raises(ReplayError, match=r"are recorded already|is not empty"):
        import_into(elsewhere, path)
    assert elsewhere.journal.last() == before
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    empty = Book(make_url(f"sqlite:///{tmp_path / 'empty.db'}") if kind == "sqlite" else server.database())
    with pytest.raises(ReplayError, match="cut off"):
        import_into(empty.bus, path)
    assert (empty.last(), empty.bus.journal.last(), empty.history.state().tables) == (0, 0, {})
    empty.close()


def test_what_a_later_version_says_of_tables_is_carried_or_refused(url: URL, elsewhere: Bus, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    with lived(url) as bus:
        write(bus, "ALTER TABLE actionbus_shapes ADD COLUMN added TEXT DEFAULT 'more'")
        export(bus.journal, path, history=bus.history)
    with pytest.raises(HistoryError, match="says added of tables, for which this database has no place"):
        import_into(elsewhere, path)
    write(elsewhere, "ALTER TABLE actionbus_shapes ADD COLUMN added TEXT")
    import_into(elsewhere, path)
    with elsewhere.engine.connect() as connection:
        assert set(connection.execute(text("SELECT added FROM actionbus_shapes")).scalars()) == {"more"}


def test_a_part_of_a_history_and_that_of_an_older_format(url: URL, elsewhere: Bus, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    with lived(url) as bus:
        middle = bus.journal.last()
        write(bus, "CREATE TABLE afterwards (id INTEGER PRIMARY KEY)")
        record(bus, "afterwards")
        bus.execute("deposit", {"id": 1, "amount": 1})
        export(bus.journal, path, upto=middle, history=bus.history)
        import_into(elsewhere, path)
        assert elsewhere.journal.last() == middle
        assert told(elsewhere.history, middle)[:3] == told(bus.history, middle)[:3]
        export(bus.journal, path)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    head = json.loads(lines[0]) | {"format": 1}
    del head["history"]
    path.write_bytes(gzip.compress("\n".join([json.dumps(head), *lines[1:]]).encode()))
    with Bus(make_application(), make_url("sqlite://")) as laptop:
        laptop.journal.create()
        assert import_into(laptop, path) == len(lines) - 1


def test_the_commands_carry_the_history_and_say_so(
    sqlite_url: URL, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", sqlite_url.render_as_string(hide_password=False))
    lived(sqlite_url).close()
    path = str(tmp_path / "journal.gz")
    assert "without the row history" in run("journal", "export", path, "--pseudonymize", "name").stdout
    assert ", with the row history" in run("journal", "export", path).stdout
    told_here = run("history", "state", "--json").stdout
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", f"sqlite:///{tmp_path / 'laptop.db'}")
    run("db", "upgrade")
    assert "`actionbus history state` tells what was" in run("journal", "import", path).stdout
    assert run("history", "state", "--json").stdout == told_here
    monkeypatch.setenv("ACTIONBUS_DATABASE_URL", f"sqlite:///{tmp_path / 'second.db'}")
    run("db", "upgrade")
    assert json.loads(run("journal", "import", path, "--without-history", "--json").stdout)["history"] is False


def test_in_a_schema_of_any_name(postgres_url: URL, server: Server, tmp_path: Path) -> None:
    schema, path = 'we"ird ?100%s {home}', tmp_path / "journal.gz"
    with Bus(make_application(), postgres_url, schema=schema) as bus:
        bus.create()
        at = [bus.execute("open_account", {"id": n, "name": f"n{n}"}).position for n in range(3)]
        export(bus.journal, path, history=bus.history)
        state = bus.history.state("accounts", at[1]).tables
        place = server.database()
        with Bus(make_application(), place, schema=schema) as second:
            second.journal.create()
            import_into(second, path)
            assert second.history.state("accounts", at[1], limit=5).tables == state
            assert bisected(second.history, "SELECT count(*) >= 2 FROM accounts") == at[1]
        server.drop(place)
