"""What an action saw of others that were committed meanwhile, whichever way: it is found, and hides no bug."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from actionbus import Bus
from actionbus.replay import Replayer, Step
from tests.conftest import prepared
from tests.replay.conftest import attempt
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Base, make_application
from tests.waiting import eventually

Does = Callable[[Any], Any]
"""What `call_back` does."""
_HELD = 4712
_WAITS = f"""
    CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock({_HELD}); RETURN NULL; END $$;
    CREATE TRIGGER wait_for_test AFTER INSERT ON journal
        FOR EACH ROW WHEN (NEW.kind = 'outcome' AND NEW.action = 'deposit') EXECUTE FUNCTION wait_for_test()
"""


class Way:
    """A function for `call_back`, and what happens while it runs for the first time; `bug` is what goes wrong later."""

    def __init__(self, bus: Bus, url: URL) -> None:
        self.bus = bus
        self.engine = create_engine(url)
        self.threads: list[threading.Thread] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.bug: Any = 0

    def pause(self) -> None:
        """In history, and there alone, the next thing happens here: in another thread, as the gateway asks."""
        if self.meanwhile:
            other = threading.Thread(target=self.meanwhile.pop(0))
            other.start()
            other.join()

    def aside(self, action: str, **arguments: Any) -> None:
        """Begun, and not waited for."""
        self.threads.append(threading.Thread(target=self.bus.execute, args=(action, arguments)))
        self.threads[-1].start()

    def await_waiting(self, kind: str) -> None:
        """Somebody waits for a lock."""
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = :kind")
        with self.engine.connect() as connection:
            eventually(lambda: connection.execute(waiting, {"kind": kind}).scalar_one(), "somebody waits for a lock")

    def end(self) -> None:
        for each in self.threads:
            each.join()

    def write(self, *statements: str) -> None:
        """Past the gateway."""
        with self.engine.begin() as connection:
            for each in statements:
                connection.execute(text(each))


@pytest.fixture
def way(postgres_url: URL) -> Iterator[Way]:
    prepared(postgres_url, recorded=True)
    with Bus(make_application(), postgres_url) as bus:
        for number in (1, 2, 3):
            bus.execute("open_account", {"id": number, "name": f"n{number}"}, actor="ann")
            bus.execute("deposit", {"id": number, "amount": 100}, actor="ann")
        made = Way(bus, postgres_url)
        yield made
        made.end()
        made.engine.dispose()


def balances(handler: Any, *numbers: int) -> list[int]:
    """Each by a statement of its own."""
    query = text("SELECT balance FROM accounts WHERE id = :id")
    return [handler.session.execute(query, {"id": number}).scalar_one() for number in numbers]


def check(
    way: Way,
    sandbox: URL,
    after: int = 0,
    statuses: Sequence[str] = ("succeeded",),
    prepare: Callable[[Engine], None] | None = None,
) -> None:
    """With the bug it is divergent; without it, others explain it. All else is the same."""
    found: dict[int, Step] = {}
    with Replayer(way.bus.journal, make_application(), sandbox, prepare=prepare) as replayer:
        for entry, recorded in replayer.begin(after, statuses=statuses):
            if entry.outcome.action == "call_back" and not entry.outcome.arguments.get("n"):
                for way.bug in (1, 0):
                    found[way.bug] = replayer.judged(entry, recorded)
                replayer.sandbox.put(recorded)
                continue
            step = replayer.judged(entry, recorded)
            assert (step.verdict, step.differences) == ("same", [])
            replayer.end_as_recorded(step, recorded)
    assert found[1].verdict == "divergent"
    step = found[0]
    assert (step.verdict, step.differences != [], step.overlapped != ()) == ("concurrent", True, True)
    assert step.statement is not None
    assert "accounts" in step.statement


def test_a_write_past_the_gateway(way: Way, empty_postgres_url: URL) -> None:
    def read(handler: Any) -> Any:
        (found,) = balances(handler, 1)
        way.pause()
        return [found + way.bug, *balances(handler, 1)]

    CallBack.function = read
    way.meanwhile = [lambda: way.write("UPDATE accounts SET balance = 7 WHERE id = 1")]
    assert way.bus.execute("call_back").result == [100, 7]
    check(way, empty_postgres_url)


def test_commits_in_another_order_than_that_of_outcomes(way: Way, empty_postgres_url: URL) -> None:
    """The deposit has drawn its position first, and is committed last."""
    with way.engine.begin() as connection:
        connection.exec_driver_sql(_WAITS)

    def read(handler: Any) -> Any:
        way.pause()
        found = balances(handler, 2, 1)
        way.pause()
        return [*found, way.bug]

    with way.engine.connect() as holding:
        lock = text(f"SELECT pg_advisory_lock({_HELD})")

        def first() -> None:
            holding.execute(lock)
            way.aside("deposit", id=1, amount=5)
            way.await_waiting("advisory")
            way.bus.execute("withdraw", {"id": 2, "amount": 5})

        def then() -> None:
            holding.execute(text(f"SELECT pg_advisory_unlock({_HELD})"))
            way.end()

        CallBack.function = read
        way.meanwhile = [first, then]
        assert way.bus.execute("call_back").result == [95, 100, 0]
    assert [record.action for record in way.bus.journal.tail(3, kind="outcome")] == ["deposit", "withdraw", "call_back"]
    check(way, empty_postgres_url)


def run_waiting_for_a_changed_row(way: Way) -> None:
    """Run the action while another, which has changed a row and made one, is committed only once it waits for that."""
    with way.engine.connect() as other:
        other.execute(text("UPDATE accounts SET balance = 50 WHERE id = 2"))
        other.execute(text("INSERT INTO accounts (id, name, balance) VALUES (9, 'nine', 0)"))
        way.aside("call_back")
        way.await_waiting("transactionid")
        other.commit()
    way.end()


def test_rows_that_a_statement_waited_for_without_those_that_are_new(way: Way, empty_postgres_url: URL) -> None:
    def change(handler: Any) -> Any:
        way.pause()
        done = handler.session.execute(text("UPDATE accounts SET balance = balance + :n"), {"n": 1 + way.bug})
        return done.rowcount

    CallBack.function = change
    run_waiting_for_a_changed_row(way)
    assert way.bus.journal.tail(1)[0].result == 3
    check(way, empty_postgres_url)


def test_one_statement_with_many_sets_of_parameters_is_many(way: Way, empty_postgres_url: URL) -> None:
    """What was committed after the first of them, the second saw."""

    def change(handler: Any) -> Any:
        query = text("SELECT id FROM accounts ORDER BY id DESC LIMIT 2")
        found = handler.session.execute(query).scalars().all()
        way.pause()
        update = text("UPDATE accounts SET balance = balance + :n WHERE id = :id")
        handler.session.execute(update, [{"id": number, "n": 1 + way.bug} for number in found])
        return list(found)

    CallBack.function = change
    run_waiting_for_a_changed_row(way)
    assert way.bus.journal.tail(1)[0].result == [3, 2]
    check(way, empty_postgres_url)


def test_what_was_committed_within_a_savepoint_outlives_it(way: Way, empty_postgres_url: URL) -> None:
    def try_first(handler: Any) -> Any:
        found = balances(handler, 1)
        with suppress(LookupError), handler.session.begin_nested():
            way.pause()
            found += balances(handler, 1)
            raise LookupError
        return [*found, *balances(handler, 1), way.bug]

    CallBack.function = try_first
    way.meanwhile = [lambda: way.bus.execute("deposit", {"id": 1, "amount": 5}) and None]
    assert way.bus.execute("call_back").result == [100, 105, 105, 0]
    check(way, empty_postgres_url)


def test_others_and_an_order_that_nobody_asked_for(way: Way, empty_postgres_url: URL) -> None:
    """The first row lay last, and the second was not poor any more when the action ended."""
    way.bus.execute("withdraw", {"id": 1, "amount": 1})

    def choose(handler: Any) -> Any:
        found = handler.session.execute(text("SELECT id FROM accounts WHERE balance < 1000 LIMIT 2")).scalars().all()
        way.pause()
        return [*found, way.bug]

    CallBack.function = choose
    way.meanwhile = [lambda: way.bus.execute("deposit", {"id": 2, "amount": 5000}) and None]
    before = way.bus.journal.last()
    assert way.bus.execute("call_back").result == [2, 3, 0]
    check(way, empty_postgres_url, before)


def test_a_name_that_another_was_given_meanwhile(way: Way, empty_postgres_url: URL) -> None:
    """The row is found by its key, and yet meets one that it does not find."""

    def rename(handler: Any) -> Any:
        taken = handler.session.execute(text("SELECT count(*) FROM accounts WHERE name = 'x'")).scalar_one()
        assert not taken
        way.pause()
        update = text("UPDATE accounts SET name = :name WHERE id = :id")
        handler.session.execute(update, {"name": "y" if way.bug else "x", "id": 1})

    CallBack.function = rename
    way.meanwhile = [lambda: way.write("UPDATE accounts SET name = 'x' WHERE id = 2")]
    with pytest.raises(IntegrityError):
        way.bus.execute("call_back")
    check(way, empty_postgres_url, statuses=["failed"])


def insert(handler: Any, number: int, name: str) -> None:
    """A new account."""
    query = text("INSERT INTO accounts (id, name, balance) VALUES (:id, :name, 0)")
    handler.session.execute(query, {"id": number, "name": name})


def test_what_was_changed_before_an_action_failed_tells_nothing(way: Way, empty_postgres_url: URL) -> None:
    """Nothing is recorded of it; so no change departs from history."""

    def change(handler: Any) -> Any:
        insert(handler, 8, "eight")
        assert balances(handler, 2) == [100]
        way.pause()
        insert(handler, 9, "nine" if way.bug else "x")

    CallBack.function = change
    way.meanwhile = [lambda: way.write("UPDATE accounts SET name = 'x', balance = 0 WHERE id = 2")]
    with pytest.raises(IntegrityError):
        way.bus.execute("call_back")
    check(way, empty_postgres_url, statuses=["failed"])


def test_what_was_changed_before_a_savepoint_was_rolled_back_tells_nothing(way: Way, empty_postgres_url: URL) -> None:
    def try_first(handler: Any) -> Any:
        with suppress(IntegrityError), handler.session.begin_nested():
            insert(handler, 8, "eight")
            with handler.session.begin_nested():
                found = balances(handler, 2)
            way.pause()
            insert(handler, 9, "x")
            return "made"
        return [*found, *balances(handler, 2), way.bug]

    CallBack.function = try_first
    way.meanwhile = [lambda: way.write("UPDATE accounts SET name = 'x', balance = 0 WHERE id = 2")]
    assert way.bus.execute("call_back").result == [100, 0, 0]
    check(way, empty_postgres_url)


def claim(handler: Any) -> int:
    """The first account with little, whatever others hold."""
    query = text("SELECT id FROM accounts WHERE balance < 1000 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED")
    found: int = handler.session.execute(query).scalar_one()
    handler.session.execute(text("UPDATE accounts SET balance = balance + 1 WHERE id = :id"), {"id": found})
    return found


@pytest.mark.parametrize(("changed", "held", "taken"), [(1, 2, 3), (3, 1, 2)])
def test_a_row_that_was_passed_over_and_one_that_others_changed(
    way: Way, empty_postgres_url: URL, changed: int, held: int, taken: int
) -> None:
    """Before the statement that passed it over, or after."""

    def choose(handler: Any) -> Any:
        found = balances(handler, changed)
        if changed < held:
            way.pause()
        found.append(claim(handler) + way.bug)
        way.pause()
        return [*found, *balances(handler, changed)]

    CallBack.function = choose
    way.meanwhile = [lambda: way.bus.execute("deposit", {"id": changed, "amount": 5000}) and None]
    with way.engine.begin() as holding:
        holding.execute(text("SELECT FROM accounts WHERE id = :held FOR UPDATE"), {"held": held})
        assert way.bus.execute("call_back").result == [100, taken, 5100]
    check(way, empty_postgres_url)


def test_a_row_that_was_held_by_one_that_failed(way: Way, empty_postgres_url: URL) -> None:
    """Of that nothing is recorded but that it failed, before the one that passed the row over had ended."""
    held, let_go = threading.Event(), threading.Event()

    def choose(handler: Any) -> Any:
        if handler.args.n:
            balances_locked = text("SELECT balance FROM accounts WHERE id = 1 FOR UPDATE")
            assert handler.session.execute(balances_locked).scalar_one() == 100
            held.set()
            let_go.wait()
            raise LookupError
        way.pause()
        found = claim(handler)
        way.pause()
        return found + way.bug

    def hold() -> None:
        way.threads.append(threading.Thread(target=attempt, args=(way.bus, "ann", "call_back"), kwargs={"n": 1}))
        way.threads[-1].start()
        held.wait()

    def fail() -> None:
        let_go.set()
        way.end()

    CallBack.function = choose
    way.meanwhile = [hold, fail]
    assert way.bus.execute("call_back").result == 2
    assert [record.status for record in way.bus.journal.tail(2)] == ["failed", "succeeded"]
    check(way, empty_postgres_url)


_TAKES_ENTRIES = """
    CREATE FUNCTION take_entries() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN DELETE FROM entries WHERE account_id = OLD.id; RETURN OLD; END $$;
    CREATE TRIGGER take_entries BEFORE DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION take_entries()
"""


def let_entries_go(engine: Engine) -> None:
    """An account takes its entries with it, one account after the other."""
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        connection.exec_driver_sql(_TAKES_ENTRIES)


def test_a_trigger_sees_what_was_committed_after_its_first_rows_had_gone(way: Way, empty_postgres_url: URL) -> None:
    """What it does for each row is a statement of its own: the first had made changes before another was committed."""
    let_entries_go(way.engine)
    held, let_go = threading.Event(), threading.Event()

    def leave(handler: Any) -> Any:
        if handler.args.n:
            handler.session.execute(text("UPDATE accounts SET balance = 7 WHERE id = 3"))
            handler.session.execute(text("DELETE FROM entries WHERE account_id = 2"))
            held.set()
            let_go.wait()
            return None
        found = balances(handler, 3)
        way.pause()
        handler.session.execute(text("DELETE FROM accounts WHERE id < 3"))
        return [*found, way.bug]

    def delete() -> None:
        way.aside("call_back", n=1)
        held.wait()

    CallBack.function = leave
    way.meanwhile = [delete]
    way.aside("call_back")
    way.await_waiting("transactionid")
    let_go.set()
    way.end()
    assert [record.result for record in way.bus.journal.tail(2)] == [None, [100, 0]]
    check(way, empty_postgres_url, prepare=let_entries_go)
