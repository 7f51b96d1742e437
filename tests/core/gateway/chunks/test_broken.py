"""Chunks that cannot be committed as they are: run again in smaller parts, with at most one outcome each."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg2.extensions
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actionbus import Bus
from actionbus.core.gateway import chunk
from actionbus.core.storage import postgresql_parts
from actionbus.core.storage.postgresql_parts import PostgreSQLParts
from actionbus.core.values.record import Record
from tests.conftest import TORTURE, elsewhere, query
from tests.core.gateway.chunks.shelf import Post, make_shelf, outcomes, put, raising, transactions
from tests.core.gateway.interrupting import interrupted

Functions = dict[str, Callable[[Any], Any]]


def settled_once(bus: Bus) -> list[Record]:
    """Each action has one outcome, its own; the table holds what succeeded; no lock is left. The outcomes."""
    found = bus.recover(timedelta(0))
    assert found.running == []
    submitted = [record.action_id for record in bus.journal.read(kind="submitted")]
    settled = list(bus.journal.read(kind="outcome"))
    assert sorted(submitted) == sorted(record.action_id for record in settled)
    made = {r.arguments["id"] for r in settled if r.status == "succeeded" and r.action == "put"}
    assert {number for (number,) in query(bus.engine.url, "SELECT id FROM things")} == made
    for record in settled:
        keys = {str(each.key) for each in record.touched if each.operation == "insert"}
        assert keys == ({str({"id": record.arguments["id"]})} if record.status == "succeeded" else set())
    return settled


def saying(*statements: str) -> Callable[[Any], None]:
    """What sends statements, `:id` being the thing's."""

    def say(handler: Any) -> None:
        for each in statements:
            values = {"id": handler.args.id} if ":id" in each else {}
            handler.session.execute(text(each), values)

    return say


def test_a_lost_connection_costs_the_action_alone_that_lost_it(postgres_shelf: Bus, functions: Functions) -> None:
    functions["cut"] = saying("SELECT pg_terminate_backend(pg_backend_pid())")
    given = postgres_shelf.runner().execute_many([put(n, "cut" if n == 105 else "nothing") for n in range(100, 111)])
    assert [each.status for each in given] == ["succeeded"] * 5 + ["failed"] + ["succeeded"] * 5
    assert len(settled_once(postgres_shelf)) == 11


def test_a_serialization_failure_runs_again_and_counts_once(
    postgres_shelf: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = postgres_shelf.runner()
    runner.execute_many([put(n) for n in range(100, 104)])
    begin, times = chunk.Chunk._parts, []

    def disturbed(self: Any, connection: Any) -> Any:
        """Somebody counts as well, between the snapshot and the count of the last one."""
        parts = begin(self, connection)
        if self.isolation == "SERIALIZABLE" and not times:
            times.append(1)
            leave = parts.leave

            def leave_and_disturb(action_id: Any) -> None:
                leave(action_id)
                if len(times) == 1:
                    times.append(2)
                    url = postgres_shelf.engine.url
                    elsewhere(lambda: query(url, "UPDATE things SET n = n + 1 WHERE id = 103"))

            parts.leave = leave_and_disturb  # type: ignore[method-assign]
        return parts

    monkeypatch.setattr(chunk.Chunk, "_parts", disturbed)
    given = runner.execute_many([("serially", {"id": n}) for n in range(100, 104)])
    assert [each.result for each in given] == [1, 1, 1, 2]
    assert times == [1, 2]
    assert [record.status for record in outcomes(postgres_shelf)] == ["succeeded"] * 8


def test_what_is_deferred_is_done_in_its_own_part_and_deferred_anew(postgres_shelf: Bus, functions: Functions) -> None:
    """A deferred constraint costs the action that breaks it; a deferred trigger's rows are the action's that fired it."""
    for each in (
        "CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN UPDATE things SET n = NEW.id WHERE id = NEW.id; RETURN NULL; END$$",
        "CREATE CONSTRAINT TRIGGER follow AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "EXECUTE FUNCTION follow()",
        "ALTER TABLE things ADD CONSTRAINT other FOREIGN KEY (n) REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED",
        "INSERT INTO things VALUES (0, 'zero', 0)",
    ):
        query(postgres_shelf.engine.url, each)
    functions["dangle"] = saying("INSERT INTO things VALUES (:id + 1000, 'other ' || :id, 777)")
    functions["later"] = saying("UPDATE things SET n = 777 WHERE id = :id", "UPDATE things SET n = 0 WHERE id = :id")
    given = postgres_shelf.runner().execute_many([put(100, "later"), put(101), put(102, "later"), put(103)])
    assert [each.error for each in given] == [None] * 4
    for record in outcomes(postgres_shelf):
        number = record.arguments["id"]
        assert {change.key["id"] % 1000 for change in record.touched} == {number}
    query(postgres_shelf.engine.url, "DROP TRIGGER follow ON things")
    given = postgres_shelf.runner().execute_many([put(200, "later"), put(201, "dangle"), put(202, "later")])
    assert [each.status for each in given] == ["succeeded", "failed", "succeeded"]
    assert given[1].error
    assert given[1].error["sqlstate"] == "23503"
    assert transactions(postgres_shelf) == 2


def test_what_fails_at_the_end_of_its_part_is_told_as_its_own(postgres_shelf: Bus, functions: Functions) -> None:
    """Also of the last one, of two in a row, and with what it had run and queued; the next one runs once, after it."""
    query(
        postgres_shelf.engine.url,
        "ALTER TABLE things ADD CONSTRAINT other FOREIGN KEY (n) REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED",
    )
    query(postgres_shelf.engine.url, "INSERT INTO things VALUES (0, 'zero', 0)")
    query(postgres_shelf.engine.url, "ALTER TABLE things ALTER n SET DEFAULT 0")
    runs: list[int] = []

    def dangle(handler: Any) -> None:
        runs.append(handler.args.id)
        handler.runner.execute("put", {"id": handler.args.id + 1000})
        handler.runner.execute_async("serially", {"id": handler.args.id})
        handler.session.execute(text("UPDATE things SET n = 777 WHERE id = :id"), {"id": handler.args.id})

    functions |= {"dangle": dangle, "note": lambda handler: runs.append(handler.args.id), "raising": raising}
    asked = [put(1, "dangle"), put(2, "note"), put(3, "dangle"), put(4, "dangle"), put(5, "raising"), put(6, "dangle")]
    given = postgres_shelf.runner().execute_many(asked)
    assert [each.status for each in given] == ["failed", "succeeded", "failed", "failed", "failed", "failed"]
    assert {each.error["sqlstate"] for each in (given[0], given[2], given[3], given[5]) if each.error} == {"23503"}
    assert runs == [1, 2, 3, 4, 6]
    assert query(postgres_shelf.engine.url, "SELECT id FROM things ORDER BY id") == [(0,), (2,)]
    assert transactions(postgres_shelf) == 1
    assert [record.action for record in postgres_shelf.journal.read(kind="outcome")] == ["put"] * 6
    assert list(postgres_shelf.journal.unfinished()) == []


@pytest.mark.parametrize("broken", ["SAVEPOINT {point}; SELECT * FROM nothing", "SELECT * FROM nothing"])
def test_what_fails_between_two_parts_is_nobodys_failure(
    postgres_shelf: Bus, functions: Functions, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """As if the server had been told to cancel a statement just when one part had ended and the next one begun."""
    runs: list[int] = []
    enter, times = PostgreSQLParts.enter, []

    def disturbed(self: PostgreSQLParts, action_id: UUID) -> str:
        times.append(1)
        with monkeypatch.context() as patch:
            if len(times) == 3:
                patch.setattr(postgresql_parts, "_ENTER", broken)
            return enter(self, action_id)

    monkeypatch.setattr(PostgreSQLParts, "enter", disturbed)
    functions["note"] = lambda handler: runs.append(handler.args.id)
    given = postgres_shelf.runner().execute_many([put(n, "note") for n in range(1, 5)])
    if "SAVEPOINT" in broken:
        assert [each.status for each in given] == ["succeeded"] * 4
        assert runs == [1, 2, 1, 2, 3, 4]
    else:  # it cannot be told from a transaction that was ended inside, so that none runs twice
        assert [each.status for each in given] == ["failed"] * 2 + ["succeeded"] * 2
        assert runs == [1, 2, 3, 4]
    settled_once(postgres_shelf)


def test_a_deferred_constraint_on_sqlite_costs_one_action(tmp_path: Any, functions: Functions) -> None:
    url = URL.create("sqlite", database=str(tmp_path / "shelf.db"))
    with Bus(make_shelf(), url) as bus:
        bus.create()
        query(url, "CREATE TABLE leaves (thing REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED)")
        functions["leaf"] = saying("INSERT INTO leaves VALUES (777)")
        given = bus.runner().execute_many([put(n, "leaf" if n == 103 else "nothing") for n in range(100, 108)])
        assert [each.status for each in given] == ["succeeded"] * 3 + ["failed"] + ["succeeded"] * 4
        settled_once(bus)


LEAVES: dict[str, tuple[str, str]] = {
    "a setting": ("SET LOCAL statement_timeout = 12345", "SHOW statement_timeout"),
    "a setting of its own": (
        "SELECT set_config('app.tenant', 'a', true)",
        "SELECT current_setting('app.tenant', true)",
    ),
    "a cursor": ("DECLARE c CURSOR FOR SELECT 1", "SELECT name FROM pg_cursors WHERE name = 'c'"),
    "a temporary table": ("CREATE TEMP TABLE t (i int) ON COMMIT DROP", "SELECT to_regclass('pg_temp.t')::text"),
    "a statement": ("PREPARE own AS SELECT 1", "SELECT name FROM pg_prepared_statements WHERE name = 'own'"),
    "constraints": ("SET CONSTRAINTS ALL IMMEDIATE", "SELECT 1"),
    "a role": ("SET LOCAL ROLE pg_monitor; RESET ROLE; SET ROLE NONE", "SELECT current_setting('role')"),
}


@pytest.mark.parametrize("what", LEAVES)
def test_it_leaves_the_next_one_nothing_but_rows(postgres_shelf: Bus, functions: Functions, what: str) -> None:
    leave, look = LEAVES[what]
    found: list[Any] = []
    functions["leave"] = saying(leave)
    functions["look"] = lambda handler: found.append(handler.session.execute(text(look)).first())
    given = postgres_shelf.runner().execute_many([put(1, "look"), put(2, "leave"), put(3, "look")])
    assert [each.status for each in given] == ["succeeded"] * 3
    assert (found[1] or (None,))[0] in ((found[0] or (None,))[0], "" if what == "a setting of its own" else None)


def test_one_that_runs_an_action_which_reaches_out_runs_alone(shelf: Bus, functions: Functions) -> None:
    def sending(handler: Any) -> Any:
        return handler.runner.execute("send", {"to": str(handler.args.id)}).result

    def hiding(handler: Any) -> Any:
        try:
            return sending(handler)
        except Exception as error:
            return str(error)

    functions |= {"sending": sending, "hiding": hiding, "raising": raising}
    given = shelf.runner().execute_many(
        [put(1), put(2, "sending"), put(3, "hiding"), put(4, "raising"), put(5, "sending"), put(6)]
    )
    assert [each.status for each in given] == ["succeeded"] * 3 + ["failed"] + ["succeeded"] * 2
    assert [each.result["told"] for each in given if each.result] == [None, 1, 2, 3, None]
    assert Post.sent == ["2", "3", "5"]
    assert [each.result["id"] for each in given if each.result] == [1, 2, 3, 5, 6]


def test_a_handler_that_ends_the_transaction_costs_those_before_it_their_success_and_never_runs_them_twice(
    shelf: Bus, functions: Functions
) -> None:
    runs: list[int] = []

    def end(handler: Any) -> None:
        driver = handler.session.connection().connection.dbapi_connection
        if isinstance(driver, sqlite3.Connection):
            driver.set_authorizer(None)
            driver.execute("COMMIT")
        else:
            psycopg2.extensions.cursor(driver).execute("COMMIT")

    functions["note"] = lambda handler: runs.append(handler.args.id)
    functions["end"] = end
    given = shelf.runner().execute_many([put(1, "note"), put(2, "end"), put(3, "note"), put(4)])
    assert [each.status for each in given][1:] == ["failed", "succeeded", "succeeded"]
    assert runs == [1, 3]
    # On SQLite its outcome stood beside what it wrote already.
    assert given[0].status == ("succeeded" if shelf.backend.has_one_writer else "failed")
    assert len(outcomes(shelf)) == 4


@pytest.mark.parametrize("last", [False, True])
def test_one_that_ended_the_transaction_and_began_another_is_noticed_before_the_next_one_runs(
    postgres_shelf: Bus, functions: Functions, last: bool
) -> None:
    runs: list[int] = []

    def end(handler: Any) -> None:
        runs.append(handler.args.id)
        driver = handler.session.connection().connection.dbapi_connection
        psycopg2.extensions.cursor(driver).execute(
            "COMMIT; BEGIN; SAVEPOINT actionbus_part_b; SAVEPOINT actionbus_part_a"
        )

    functions |= {"note": lambda handler: runs.append(handler.args.id), "end": end}
    asked = [put(1, "note"), put(2, "end"), *([] if last else [put(3, "note"), put(4, "note")])]
    given = postgres_shelf.runner().execute_many(asked)
    assert [each.status for each in given] == ["failed", "failed", "succeeded", "succeeded"][: len(asked)]
    assert ["ended inside" in each.error["message"] for each in given[:2] if each.error] == [True, True]
    assert runs == [1, 2, 3, 4][: len(asked)]
    assert len(outcomes(postgres_shelf)) == len(asked)


def test_recovery_beside_a_chunk_leaves_it_alone(shelf: Bus, functions: Functions) -> None:
    if shelf.backend.has_one_writer and not shelf.engine.url.database:
        return
    found: list[Any] = []

    def recover(handler: Any) -> None:
        with Bus(make_shelf(), shelf.engine.url) as other:
            found.append(other.recover(timedelta(0)))

    functions["recover"] = lambda handler: elsewhere(lambda: recover(handler))
    given = shelf.runner().execute_many([put(1), put(2, "recover"), put(3)])
    assert [each.status for each in given] == ["succeeded"] * 3
    assert [len(each.running) for each in found] == [3]
    assert found[0].interrupted == []
    assert shelf.recover(timedelta(0)).running == []


def at_once(bus: Bus, first: int) -> Any:
    return bus.runner().execute_many([put(first), put(first + 1, "raising"), put(-1), put(first + 2)])


@pytest.fixture
def small_pool(url: URL) -> Iterator[Bus]:
    """A pool of one, so that what an interruption leaves behind meets the next action."""
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=2)
    with Bus(make_shelf(), engine) as bus:
        bus.create()
        yield bus
    engine.dispose()


def test_an_interruption_at_any_line_leaves_each_action_done_or_interrupted(
    small_pool: Bus, functions: Functions
) -> None:
    bus = small_pool
    functions["raising"] = raising
    for warm in (100, 110):
        interrupted(0, KeyboardInterrupt, lambda warm=warm: at_once(bus, warm))
    gc.freeze()
    number, at, step = 1000, 1, 1 if TORTURE else 41
    strikes = 0
    while True:
        number += 10
        before = bus.journal.last()
        interrupter, raised = interrupted(at, KeyboardInterrupt, lambda: at_once(bus, number))  # noqa: B023
        if interrupter.where is None:
            break
        strikes += 1
        assert raised is KeyboardInterrupt, interrupter.where
        gc.collect()
        left = list(bus.journal.unfinished())
        assert left == [], f"{interrupter.where}: without outcome"
        statuses = {r.status for r in bus.journal.read(after=before, kind="outcome")}
        assert statuses <= {"succeeded", "failed", "rejected", "interrupted"}
        bus.execute("put", {"id": number + 9})
        at += step
    assert strikes > 20
    assert sys.gettrace() is None
    settled_once(bus)


KILLS = 60 if TORTURE else 6


def killed(url: str, at: int) -> None:
    """Run chunks until the n-th statement of any kind that core sends, and die there."""
    sent = 0

    def count(frame: Any, what: str, argument: Any) -> Any:
        nonlocal sent
        # Of a call alone the argument is a function: a value that is returned may not bear to be asked for a name.
        if (
            what == "c_call"
            and argument.__name__ in ("execute", "commit")
            and "actionbus" in frame.f_globals.get("__name__", "")
        ):
            sent += 1
            if sent == at:
                os.kill(os.getpid(), signal.SIGKILL)

    bus = Bus(make_shelf(), url)
    bus.journal.last()
    sys.setprofile(count)
    for first in range(at * 1000, at * 1000 + 40, 4):
        at_once(bus, first)


def test_a_process_killed_at_any_statement_leaves_nothing_half_done(shelf: Bus, functions: Functions) -> None:
    functions["raising"] = raising
    where = shelf.engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("fork")
    for number in range(1, KILLS + 1):
        process = context.Process(target=killed, args=(where, number * (3 if TORTURE else 11)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    statuses = [record.status for record in settled_once(shelf)]
    assert "interrupted" in statuses
    assert "succeeded" in statuses
