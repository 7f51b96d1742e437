"""A table that is not recorded as it should be is noticed: when a bus is first used, and in every answer after."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.core.history import postgresql_standing
from actionbus.core.history.answers import TableBasis
from actionbus.core.history.postgresql_catalogue import look
from tests.conftest import create_tables
from tests.shop.app import make_application

LOST = {
    "sqlite": {
        "one trigger dropped": "DROP TRIGGER actionbus_u_accounts",
        "all triggers dropped": "DROP TRIGGER actionbus_i_accounts; DROP TRIGGER actionbus_u_accounts; "
        "DROP TRIGGER actionbus_d_accounts; DROP TRIGGER actionbus_k_accounts",
    },
    "postgresql": {
        "one trigger dropped": 'DROP TRIGGER "!actionbus_update" ON accounts',
        "all triggers dropped": 'DROP TRIGGER "!actionbus_insert" ON accounts; DROP TRIGGER "!actionbus_update" ON accounts; '
        'DROP TRIGGER "!actionbus_delete" ON accounts; DROP TRIGGER "!actionbus_truncate" ON accounts',
        "switched off": "ALTER TABLE accounts DISABLE TRIGGER ALL",
        "no longer always": "ALTER TABLE accounts ENABLE TRIGGER ALL",
    },
}
CASES = [(database, how) for database, ways in LOST.items() for how in ways]


@pytest.fixture
def made(url: URL) -> Iterator[Bus]:
    """The shop, recorded from the beginning, with an account."""
    with Bus(make_application(), url) as bus:
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"})
        yield bus


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    caplog.clear()
    return found


def run(bus: Bus, sql: str) -> None:
    with bus.engine.begin() as connection:
        for each in sql.split("; "):
            connection.execute(text(each))


def basis(bus: Bus, at: int | None = None) -> TableBasis:
    (found,) = [each for each in bus.history.state(at=at).basis.tables if each.table.endswith("accounts")]
    return found


def test_whoever_is_recorded_hears_nothing(made: Bus, caplog: pytest.LogCaptureFixture) -> None:
    with Bus(make_application(), made.engine.url) as bus:
        bus.execute("deposit", {"id": 1, "amount": 1})
    assert warnings(caplog) == []
    assert basis(made).problems == ()
    assert all(each.is_whole for each in made.history.status())


@pytest.mark.parametrize(("url", "how"), CASES, indirect=["url"])
def test_what_is_lost_is_said_once_and_by_every_answer_until_it_is_mended(
    made: Bus, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = made.execute("deposit", {"id": 1, "amount": 1}).position
    run(made, LOST[made.engine.dialect.name][how])
    with Bus(make_application(), made.engine.url) as bus:
        bus.execute("deposit", {"id": 1, "amount": 1})
        (told,) = warnings(caplog)
        assert "accounts" in told
        assert "entries" not in told
        assert "`actionbus db upgrade --models`, or bus.create(), mends it" in told
        bus.execute("deposit", {"id": 1, "amount": 1})
        assert warnings(caplog) == [], "once is enough"
        assert basis(bus).problems
        since = basis(bus).unrecorded_since
        assert since is not None
        assert since <= before
        if how == "all triggers dropped":
            assert since == before
            assert basis(bus, before - 1).problems == (), "of what was before, all is known"
        assert not [each for each in bus.history.rows("entries", 1).basis.tables if each.problems]
        assert [each.is_whole for each in bus.history.status()] == [False, True]
        bus.create()
        assert basis(bus).problems == ()
        assert basis(bus).unrecorded_since is None
        assert warnings(caplog) == []


@pytest.mark.parametrize(("name", "change"), [("more", "ADD COLUMN more INTEGER"), ("title", "RENAME name TO title")])
def test_a_column_that_is_not_recorded_yet_is_said(
    made: Bus, name: str, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(made, f"ALTER TABLE accounts {change}")
    with Bus(make_application(), made.engine.url) as bus:
        bus.execute("draw")
        (told,) = warnings(caplog)
        assert name in told
        assert basis(bus).unrecorded_since is None
        assert basis(bus).problems
        assert basis(bus, at=1).problems == ()


def test_answers_of_earlier_positions_are_whole_when_a_migration_has_renewed_the_triggers(made: Bus) -> None:
    before = made.execute("deposit", {"id": 1, "amount": 1}).position
    for name in ("more", "yet_more"):
        run(made, f"ALTER TABLE accounts ADD COLUMN {name} INTEGER")
        made.create()
        made.execute("deposit", {"id": 1, "amount": 1})
        for at in (before, before - 1, None):
            assert basis(made, at).problems == ()
            assert basis(made, at).unrecorded_since is None


def test_the_catalogue_is_looked_into_once_for_all_tables(postgres_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(postgresql_standing, "look", lambda *given: looks.append(given) or look(*given))
    with Bus(make_application(), postgres_url) as bus:
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"})
        looks.clear()
        assert len(bus.history.state().basis.tables) == 2
        assert len(looks) == 1


def test_it_takes_no_second_connection_and_one_look(made: Bus, caplog: pytest.LogCaptureFixture) -> None:
    run(made, LOST[made.engine.dialect.name]["one trigger dropped"])
    engine = create_engine(made.engine.url, pool_size=1, max_overflow=0, pool_timeout=1)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    with Bus(make_application(), engine) as bus:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: bus.execute("draw"), range(4)))
        assert len(warnings(caplog)) == 1
        looked = [each for each in statements if "actionbus_shapes" in each]
        assert len(looked) == 1
        bus.execute("deposit", {"id": 1, "amount": 1})  # looks for cascades, once
        statements.clear()
        bus.execute("deposit", {"id": 1, "amount": 1})
        assert not [each for each in statements if "pg_" in each or "sqlite_master" in each or "actionbus_" in each]
    engine.dispose()


@pytest.mark.parametrize(
    "application", [make_application(unrecorded=["accounts", "entries"]), make_application(models=None)]
)
def test_silent_where_nothing_is_to_be_recorded(
    url: URL, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with Bus(application, url) as bus:
        bus.journal.create()
        create_tables(bus.engine)
        bus.execute("open_account", {"id": 1, "name": "a"})
        assert warnings(caplog) == []
        assert bus.history.status() == []


def test_a_journal_alone_works_as_it_did(url: URL, caplog: pytest.LogCaptureFixture) -> None:
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        create_tables(bus.engine)
        bus.execute("open_account", {"id": 1, "name": "a"})
        bus.execute("deposit", {"id": 1, "amount": 1})
        (told,) = warnings(caplog)
        assert "of accounts, entries" in told.replace("public.", "")
        answer = bus.history.state()
        assert answer.tables == {}
        assert sorted(answer.basis.unrecorded) == ["accounts", "entries"]
        assert [each.since for each in bus.history.status()] == [None, None]


def test_a_look_that_fails_is_no_reason_for_an_action_to_fail(
    postgres_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    with Bus(make_application(), postgres_url) as owner:
        owner.create()
        with owner.engine.begin() as connection:
            connection.execute(text("ALTER TABLE actionbus_shapes RENAME TO elsewhere"))
        assert owner.execute("draw").status == "succeeded"
        (told,) = warnings(caplog)
        assert told.startswith("whether changes of rows are recorded could not be found out: ")
        assert owner.execute("draw").status == "succeeded"
        assert warnings(caplog) == []


def test_a_table_that_is_not_there_loses_nothing(url: URL, caplog: pytest.LogCaptureFixture) -> None:
    with Bus(make_application(), url) as bus:
        bus.journal.create()
        bus.execute("draw")
        assert warnings(caplog) == []
        assert sorted(each.table_name for each in bus.history.status()) == ["accounts", "entries"]
        assert not any(each.is_whole for each in bus.history.status())
        bus.create()
        assert all(each.is_whole for each in bus.history.status())
        with bus.engine.begin() as connection:
            connection.execute(text("DROP TABLE entries"))
        (gone,) = [each for each in bus.history.status() if not each.is_whole]
        assert gone.table_name.endswith("entries")
        assert gone.since is not None
