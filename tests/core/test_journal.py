"""The journal as a table: append-only for every client, filtered, readable in plain SQL; idempotency; recovery."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from sqlalchemy import create_engine, delete, insert, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError

from actionbus import (
    ActionFailed,
    ActionInProgress,
    ActionInterrupted,
    Bus,
    ConfigurationError,
    IdempotencyConflict,
    InvalidArguments,
    JournalUnavailable,
)
from actionbus.core.storage.table import COLUMNS, journal_table
from actionbus.testing import HeldQueue
from tests.conftest import BusFactory, elsewhere, query
from tests.helpers import balance, opened
from tests.shop.actions.call_back import CallBack
from tests.waiting import PATIENCE_S, eventually

REFUSED = [
    "UPDATE journal SET actor = 'x'",
    "UPDATE journal SET actor = actor WHERE position = 1",
    "DELETE FROM journal",
    "DELETE FROM journal WHERE position = 2",
]


@pytest.mark.parametrize("statement", [*REFUSED, "TRUNCATE journal", "TRUNCATE journal CASCADE"])
@pytest.mark.parametrize("role", ["origin", "replica", "local"])
def test_postgresql_refuses_every_change(
    make_postgres_bus: BusFactory, postgres_url: URL, statement: str, role: str
) -> None:
    opened(make_postgres_bus(), 1)
    dsn = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
            cursor.execute(statement)
    connection.close()


def test_postgresql_refuses_upserts_and_merges_that_would_change(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    opened(make_postgres_bus(), 1)
    engine = create_engine(postgres_url)
    row = "SELECT action_id, kind, action, correlation_id FROM journal LIMIT 1"
    for statement in (
        f"INSERT INTO journal (action_id, kind, action, correlation_id) {row} ON CONFLICT (action_id, kind) DO UPDATE SET actor = 'x'",
        f"MERGE INTO journal j USING ({row}) r ON j.action_id = r.action_id WHEN MATCHED THEN DELETE",
        "INSERT INTO journal (position, action_id, kind, action, correlation_id) "
        "VALUES (1, gen_random_uuid(), 'submitted', 'x', 'x')",
    ):
        with pytest.raises(DBAPIError), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        *REFUSED,
        "INSERT OR REPLACE INTO journal SELECT * FROM journal WHERE position = 1",
        "REPLACE INTO journal (action_id, kind, action, correlation_id) SELECT action_id, kind, 'x', 'x' FROM journal",
        "REPLACE INTO journal (position, action_id, kind, action, correlation_id) VALUES (1, 'x', 'submitted', 'x', 'x')",
        "UPDATE OR REPLACE journal SET position = 2 WHERE position = 1",
        "INSERT INTO journal SELECT * FROM journal WHERE true ON CONFLICT DO UPDATE SET actor = 'x'",
    ],
)
def test_sqlite_refuses_every_change(
    make_sqlite_bus: BusFactory, sqlite_url: URL, statement: str, recursive: str
) -> None:
    bus = opened(make_sqlite_bus(), 1)
    bus.execute("deposit", {"id": 1}, idempotency_key="k")
    before = [record.public() for record in bus.journal.read()]
    connection = sqlite3.connect(str(sqlite_url.database))
    connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), connection:
        connection.execute(statement)
    connection.close()
    assert [record.public() for record in bus.journal.read()] == before


def test_sqlalchemy_is_refused_too(bus: Bus) -> None:
    opened(bus, 1)
    table = journal_table()
    for statement in (update(table).values(actor="x"), delete(table)):
        with pytest.raises(DBAPIError, match="append-only"), bus.engine.begin() as connection:
            connection.execute(statement)


def test_an_action_has_one_outcome_by_constraint(bus: Bus) -> None:
    outcome = opened(bus, 1).execute("deposit", {"id": 1})
    row = {"action_id": outcome.action_id, "kind": "outcome", "status": "failed", "action": "x", "correlation_id": "x"}
    with pytest.raises(DBAPIError), bus.engine.begin() as connection:
        connection.execute(insert(journal_table()).values(**row))


def test_the_table_has_every_public_column(bus: Bus) -> None:
    with bus.engine.connect() as connection:
        found = tuple(connection.execute(text("SELECT * FROM journal")).keys())
        assert found == (*COLUMNS, "images_after", "images_upto")


def test_filters(bus: Bus) -> None:
    bus.create()  # and with it what records rows
    opened(bus, 1, 2)
    bus.execute("deposit", {"id": 1, "amount": 9}, actor="bob", correlation_id="corr")
    outcome = bus.execute("transfer", {"source": 1, "target": 2, "amount": 4}, actor="bob")
    with pytest.raises(InvalidArguments):
        bus.execute("deposit", {"id": "x"}, actor="bob")
    read = bus.journal.read

    def actions(**filters: Any) -> list[str]:
        return [record.action for record in read(kind="outcome", **filters)]

    assert actions(actor="bob") == ["deposit", "withdraw", "deposit", "transfer", "deposit"]
    assert actions(action="open_account") == ["open_account"] * 2
    assert actions(status="rejected") == ["deposit"]
    assert actions(correlation_id="corr") == ["deposit"]
    assert actions(cause_id=outcome.action_id) == ["withdraw", "deposit"]
    assert actions(touching=("accounts", 2)) == ["open_account", "deposit"]
    assert actions(touching=("accounts", "1")) == ["open_account", "deposit", "withdraw"]
    assert len(actions(touching=("entries",))) == 3
    assert actions(touching=("ent",)) == []
    assert actions(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(actions(since=datetime.now(UTC) - timedelta(hours=1), until=datetime.now(UTC))) == 7
    assert [r.position for r in read(after=3, limit=2)] == [4, 5]
    assert actions(touching=("accounts", 2), actor="bob") == ["deposit"]
    assert actions(touching=("accounts", "no number")) == []
    assert [r.action for r in read(touching=("accounts",), limit=3)] == ["open_account", "open_account", "deposit"]
    whole = [r for r in read() if r.kind != "bypass"]  # on PostgreSQL the installation has a record
    assert len(whole) == 14
    assert bus.journal.tail(2) == whole[-2:]


def test_a_journal_of_many_batches_is_read_whole(bus: Bus) -> None:
    _fill(bus, 2_500)
    positions = [record.position for record in bus.journal.read()]
    assert positions == list(range(1, 2_501))
    assert [r.position for r in bus.journal.read(after=1_000, limit=1_200)] == positions[1_000:2_200]
    assert len(list(bus.journal.read(action="x0"))) == 250


def _fill(bus: Bus, count: int) -> None:
    rows = [
        {"action_id": uuid4(), "kind": "submitted", "action": f"x{n % 10}", "correlation_id": "c",
         "recorded_at": datetime.now(UTC), "format": 1}
        for n in range(count)
    ]  # fmt: skip
    with bus.engine.begin() as connection:
        connection.execute(insert(journal_table()), rows)


def test_stats(bus: Bus) -> None:
    opened(bus, 1, 2)
    told = bus.journal.stats()
    assert (told["records"], told["last_position"]) == (4, 4)
    assert told["actions"][0]["count"] == 2


def test_a_database_without_journal_is_told_apart(url: URL) -> None:
    from tests.shop.app import make_application

    with Bus(make_application(), url) as bus, pytest.raises(ConfigurationError, match="db upgrade"):
        bus.journal.require()


# -- idempotency keys


def test_a_repeated_key_gives_the_first_outcome_and_writes_nothing(bus: Bus) -> None:
    opened(bus, 1)
    first = bus.execute("deposit", {"id": 1, "amount": 2}, idempotency_key="k", actor="ann")
    count = len(list(bus.journal.read()))
    again = bus.execute("deposit", {"amount": 2, "id": 1}, idempotency_key="k", actor="ann")
    assert (again.action_id, again.result, again.repeated) == (first.action_id, first.result, True)
    assert len(list(bus.journal.read())) == count
    assert balance(bus, 1) == 2


def test_a_key_belongs_to_an_actor_and_an_action(bus: Bus) -> None:
    opened(bus, 1)
    for actor in ("ann", "bob", None):
        assert not bus.execute("deposit", {"id": 1}, idempotency_key="k", actor=actor).repeated
    assert balance(bus, 1) == 3


@pytest.mark.parametrize(
    "other", [{"id": 1, "amount": 3}, {"id": "1", "amount": 2}, {"id": 1, "amount": 2.0}, {"id": 1}]
)
def test_other_arguments_are_a_conflict_that_is_journaled(bus: Bus, other: dict[str, Any]) -> None:
    opened(bus, 1)
    bus.execute("deposit", {"id": 1, "amount": 2}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict) as caught:
        bus.execute("deposit", other, idempotency_key="k")
    history = bus.journal.history(caught.value.action_id)  # type: ignore[arg-type]
    assert [record.status for record in history] == [None, "rejected"]
    assert balance(bus, 1) == 2


def test_a_key_whose_action_still_runs(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> None:
        started.set()
        assert go_on.wait(PATIENCE_S)

    monkeypatch.setattr(CallBack, "function", wait)
    monkeypatch.setattr(CallBack, "requires", ("mailer",))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(bus.execute, "call_back", {}, idempotency_key="k")
        assert started.wait(PATIENCE_S)
        if bus.engine.dialect.name == "postgresql":  # on SQLite, with its one writer, the second call would wait
            with pytest.raises(ActionInProgress):
                bus.execute("call_back", {}, idempotency_key="k")
        go_on.set()
        assert first.result().status == "succeeded"
    assert bus.execute("call_back", {}, idempotency_key="k").repeated


def test_fifty_threads_with_one_key_have_one_effect(bus: Bus) -> None:
    opened(bus, 1)
    gate = threading.Barrier(50)

    def call(_: int) -> Any:
        gate.wait()
        return eventually(attempt, "the first call has its outcome")

    def attempt() -> UUID | None:
        try:
            return bus.execute("deposit", {"id": 1}, idempotency_key="k").action_id
        except ActionInProgress as error:
            assert error.action_id
            return None

    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(call, range(50)))
    assert len(found) == 1
    assert balance(bus, 1) == 1
    assert len([r for r in bus.journal.read(action="deposit") if r.kind == "outcome"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "a\nb", 7])
def test_a_bad_key_is_refused_and_kept(bus: Bus, key: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        bus.execute("deposit", {"id": 1}, idempotency_key=key)
    assert "idempotency_key" in caught.value.errors


REFUSALS = {
    "a trigger of somebody else": {
        "sqlite": "CREATE TRIGGER no BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'not today'); END",
        "postgresql": "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE unique_violation; END$$; "
        "CREATE TRIGGER no BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION no()",
    },
    "a position that is taken": {  # SQLite's trigger finds it at the position that none is known for yet
        "sqlite": "INSERT INTO journal (position, action_id, kind, action, correlation_id) "
        "VALUES (-1, 'x', 'submitted', 'x', 'x')",
        "postgresql": "SELECT setval('journal_position_seq', 1)",
    },
}


@pytest.mark.parametrize("key", [None, "new"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_record_that_is_refused_is_never_taken_for_a_repeated_one(bus: Bus, refusal: str, key: str | None) -> None:
    opened(bus, 1)
    bus.execute("deposit", {"id": 1, "amount": 1})
    dialect = bus.engine.dialect.name
    query(bus.engine.url, REFUSALS[refusal][dialect])
    with pytest.raises(JournalUnavailable, match="nothing was run"):
        bus.execute("deposit", {"id": 1, "amount": 1}, idempotency_key=key)
    assert balance(bus, 1) == 1


@pytest.mark.parametrize("lookup", ["by_key", "outcome"])
@pytest.mark.parametrize("call", ["execute", "execute_async"])
def test_a_database_lost_while_a_key_is_looked_up_is_told(
    make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, call: str, lookup: str
) -> None:
    bus = opened(make_postgres_bus(queue=HeldQueue()), 1)
    runner = bus.runner("ann")
    lost = bus.runs if (call, lookup) == ("execute_async", "outcome") else bus.journal
    lookup = "get" if lost is bus.runs else lookup
    getattr(runner, call)("deposit", {"id": 1}, idempotency_key="k")
    original = getattr(lost, lookup)

    def lose(*given: Any) -> Any:
        pid = given[-1].exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        elsewhere(lambda: query(bus.engine.url, f"SELECT pg_terminate_backend({pid}, 10000)"))
        return original(*given)

    monkeypatch.setattr(lost, lookup, lose)
    with pytest.raises(JournalUnavailable, match="nothing was run") as caught:
        getattr(runner, call)("deposit", {"id": 1}, idempotency_key="k")
    assert caught.value.action_id
    monkeypatch.undo()
    assert getattr(runner, call)("deposit", {"id": 1}, idempotency_key="k").repeated


UNREADABLE = {
    "nested too deeply": "[" * 5_000 + "]" * 5_000,
    "a number with more digits than Python reads": "1" * 5_000,
    "broken": "{nope",
}


@pytest.mark.parametrize("payload", UNREADABLE)
def test_a_row_that_is_no_record_is_named_by_its_position(bus: Bus, payload: str) -> None:
    opened(bus, 1)
    insert = text(
        "INSERT INTO journal (action_id, kind, action, correlation_id, arguments) "
        f"VALUES ('{uuid4().hex}', 'submitted', 'x', 'x', :arguments)"
    )
    with suppress(DataError), bus.engine.begin() as connection:  # PostgreSQL refuses what is no JSON
        connection.execute(insert, {"arguments": UNREADABLE[payload]})
    if bus.journal.last() == 2:
        return
    opened(bus, 2)
    for read in (lambda: list(bus.journal.read()), lambda: bus.journal.tail(9), lambda: bus.journal.at(3)):
        with pytest.raises(JournalUnavailable, match="position 3 cannot be read"):
            read()
    assert len(list(bus.journal.read(upto=2))) == len(list(bus.journal.read(after=3))) == 2


def test_no_record_is_found_by_no_key(bus: Bus) -> None:
    opened(bus, 1)
    assert bus.journal.by_key("open_account", "ann", None) is None


# -- recovery


def abandon(bus: Bus, **columns: Any) -> Any:
    """A submitted record whose process is gone."""
    action_id = uuid4()
    row = {"action_id": action_id, "kind": "submitted", "action": "deposit", "correlation_id": "c", "format": 1,
           "recorded_at": datetime.now(UTC) - timedelta(hours=1), **columns}  # fmt: skip
    with bus.engine.begin() as connection:
        connection.execute(insert(journal_table()).values(**row))
    return action_id


def test_recovery_settles_what_was_abandoned_once(bus: Bus) -> None:
    action_id = abandon(bus)
    assert bus.recover(timedelta(minutes=1)).interrupted == [action_id]
    assert bus.recover(timedelta(minutes=1)).interrupted == []
    record = bus.journal.get(action_id)
    assert record
    assert record.status == "interrupted"


def test_recovery_leaves_the_young_alone(bus: Bus) -> None:
    abandon(bus, recorded_at=datetime.now(UTC))
    assert bus.recover(timedelta(minutes=1)).interrupted == []


def test_a_key_of_an_interrupted_action_says_so(bus: Bus) -> None:
    abandon(bus, idempotency_key="k", arguments={"id": 1})
    with pytest.raises(ActionInProgress):
        bus.execute("deposit", {"id": 1}, idempotency_key="k")
    bus.recover(timedelta(0))
    with pytest.raises(ActionInterrupted):
        bus.execute("deposit", {"id": 1}, idempotency_key="k")


def test_recovery_never_aborts_what_still_runs(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    bus, other = make_bus(), make_bus()
    started, go_on = threading.Event(), threading.Event()

    def wait(handler: Any) -> str:
        started.set()
        assert go_on.wait(PATIENCE_S)
        return "done"

    monkeypatch.setattr(CallBack, "function", wait)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bus.execute, "call_back", {})
        assert started.wait(PATIENCE_S)
        found = other.recover(timedelta(0))
        assert (len(found.running), found.interrupted) == (1, [])
        go_on.set()
        assert running.result().result == "done"
    assert other.recover(timedelta(0)).running == []


def test_no_lock_outlives_its_action(make_postgres_bus: BusFactory) -> None:
    bus = opened(make_postgres_bus(), 1)
    for arguments in ({"id": 1}, {"id": "x"}, {"id": 99}):
        try:
            bus.execute("deposit", arguments, idempotency_key=f"k{arguments}")
        except InvalidArguments:
            pass
    with pytest.raises(LookupError):
        bus.execute("withdraw", {"id": 5, "amount": 1}, idempotency_key="k")
    with pytest.raises(ActionFailed):
        bus.execute("withdraw", {"id": 5, "amount": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        bus.execute("withdraw", {"id": 5, "amount": 2}, idempotency_key="k")
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar() == 0


def test_an_outcome_written_by_somebody_else_is_the_answer(
    make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a recovery that ignored the lock could give an action two outcomes, or half an effect."""
    bus, other = make_postgres_bus(), make_postgres_bus()
    opened(bus, 1)

    def be_recovered(handler: Any) -> None:
        handler.session.execute(text("UPDATE accounts SET balance = 77"))
        assert len(elsewhere(lambda: other.recover(timedelta(0))).interrupted) == 1

    monkeypatch.setattr(type(other.backend), "claim", lambda *_: True)
    monkeypatch.setattr(CallBack, "function", be_recovered)
    with pytest.raises(ActionInterrupted):
        bus.execute("call_back")
    assert bus.journal.tail(1)[0].status == "interrupted"
    assert balance(bus, 1) == 0
