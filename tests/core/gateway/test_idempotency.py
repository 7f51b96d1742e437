"""A key runs an action once, whoever repeats it and however fast; a bad one is refused and journaled."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from actionbus import ActionInProgress, Bus, IdempotencyConflict, InvalidArguments, JournalUnavailable
from actionbus.testing import HeldBroker
from tests.conftest import BusFactory, elsewhere, query
from tests.helpers import balance, opened
from tests.shop.actions.call_back import CallBack
from tests.waiting import PATIENCE_S, eventually


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
    bus = opened(make_postgres_bus(broker=HeldBroker()), 1)
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


def test_no_record_is_found_by_no_key(bus: Bus) -> None:
    opened(bus, 1)
    assert bus.journal.by_key("open_account", "ann", None) is None
