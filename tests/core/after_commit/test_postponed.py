"""A postponed call is made after the commit if the action succeeded, with a key that stays, and is on record."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from actionbus import (
    ActionFailed,
    Bus,
    InvalidArguments,
    Misuse,
    PermissionDenied,
    PostponedCall,
    Retry,
    Ticket,
)
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.queue_state import Queues
from actionbus.testing import HeldBroker
from tests.conftest import BusFactory
from tests.core.after_commit.till import Till, application
from tests.helpers import let_time_pass
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account


def do(function: Any) -> None:
    """Have the handler of `call_back` do this."""
    CallBack.function = function


def charges(handler: Any, amount: int = 5) -> Any:
    """Open an account and charge, as an action would."""
    call = handler.mailer.charge(amount, note="for tea")
    handler.session.add(Account(id=handler.args.n, name=str(handler.args.n)))
    return {"by": call.action_id, "key": call.key}


def work(bus: Bus) -> None:
    Worker(bus).run_due()


def test_a_call_is_made_after_the_commit_by_an_action_that_the_first_one_caused(bus: Bus, till: type[Till]) -> None:
    seen: list[Any] = []

    def charge(self: Till, amount: int, *, note: str = "", idempotency_key: str = "") -> str:
        with bus.engine.connect() as connection:
            seen.append(connection.execute(text("SELECT id FROM accounts")).scalar())
        return "receipt 1"

    do(charges)
    original, Till.charge = Till.charge, charge  # type: ignore[method-assign, assignment]
    try:
        outcome = bus.execute("call_back", {"n": 7}, actor="ana", context={"tenant": "x"})
    finally:
        Till.charge = original  # type: ignore[method-assign]
    assert seen == [7], "what the action wrote is committed when the call is made"
    performed = bus.journal.outcome(outcome.result["by"])
    assert performed is not None
    assert (performed.action, performed.status, performed.result) == ("perform_mailer", "succeeded", "receipt 1")
    assert (performed.cause_id, performed.actor) == (outcome.action_id, "ana")
    asked = bus.journal.submitted(performed.action_id)
    assert asked is not None
    assert asked.context == {"tenant": "x"}
    assert asked.arguments == {
        "call": "mailer.charge",
        "positional": [5],
        "named": {"note": "for tea"},
        "key": outcome.result["key"],
    }
    assert performed.calls == [
        {
            "call": "mailer.charge",
            "args": [5],
            "returned": "receipt 1",
            "kwargs": {"note": "for tea", "idempotency_key": outcome.result["key"]},
        }
    ]
    assert bus.runs.all() == []
    first = bus.journal.outcome(outcome.action_id)
    assert first is not None
    assert first.calls is None, "nothing was called by the first action"


def test_a_failed_action_leaves_nothing(bus: Bus, till: type[Till]) -> None:
    def fails(handler: Any) -> None:
        charges(handler)
        raise ArithmeticError

    do(fails)
    with pytest.raises(ArithmeticError):
        bus.execute("call_back", {"n": 1})
    assert [record.action for record in bus.journal.read()] == ["call_back", "call_back"]
    assert (bus.runs.all(), till.asked) == ([], [])


def test_calls_are_made_in_their_order_and_one_that_is_made_again_holds_up_those_behind(
    bus: Bus, till: type[Till]
) -> None:
    def three(handler: Any) -> list[str]:
        return [handler.mailer.charge(amount).key for amount in (1, 2, 3)]

    do(three)
    till.trouble = [TimeoutError("slow"), TimeoutError("slower")]
    keys = bus.execute("call_back").result
    assert till.asked == keys[:1]
    problems = {str(run.action_id): run.problem for run in bus.runs.all()}
    assert problems == {keys[0]: "TimeoutError: slow", keys[1]: None, keys[2]: None}
    work(bus)
    assert till.asked == keys[:1], "not before its pause is over"
    for _ in range(4):
        let_time_pass(bus, 4000)
        work(bus)
    assert till.asked == [keys[0], keys[0], *keys]
    assert till.amounts() == [1, 2, 3]


def test_what_is_never_taken_is_a_dead_letter_and_is_retried_under_the_same_key(
    make_bus: BusFactory, till: type[Till]
) -> None:
    bus = make_bus(application(Retry(on=(ConnectionError,), attempts=2, backoff=0)))
    do(charges)
    till.shut = True
    key = bus.execute("call_back", {"n": 1}, actor="ana").result["key"]
    work(bus)
    [dead] = Queues(bus.backend).dead_letters()
    assert (dead.action, dead.attempts) == ("perform_mailer", 2)
    till.shut = False
    again = bus.runner("olga", operator=True).retry(dead.action_id).result["again"]
    work(bus)
    assert till.asked == [key] * 3
    assert till.taken == {key: (5, "for tea")}
    record = bus.journal.outcome(again)
    assert record is not None
    assert (record.status, record.actor) == ("succeeded", "ana")


def test_what_is_not_to_be_tried_again_fails_and_the_first_action_has_succeeded(
    make_bus: BusFactory, till: type[Till]
) -> None:
    bus = make_bus(application(Retry(on=(TimeoutError,))))
    do(charges)
    till.shut = True
    outcome = bus.execute("call_back", {"n": 1})
    assert outcome.status == "succeeded"
    with pytest.raises(ActionFailed):
        Ticket(outcome.result["by"], "perform_mailer", None, _services=bus.services).wait(0)  # type: ignore[arg-type]


def test_a_repeated_action_calls_nothing_again(bus: Bus, till: type[Till]) -> None:
    do(charges)
    for _ in range(2):
        bus.runner("ana").execute("call_back", {"n": 1}, idempotency_key="k")
    assert len(till.asked) == 1


def test_a_savepoint_that_is_rolled_back_takes_its_calls_with_it(bus: Bus, till: type[Till]) -> None:
    """Of the handler, and of a nested action that failed; each is on record as withdrawn."""

    def tries(handler: Any) -> None:
        if handler.args.n == 1:
            charges(handler, 99)
            raise ArithmeticError
        handler.mailer.charge(1)
        with handler.session.begin_nested() as savepoint:
            handler.mailer.charge(98)
            savepoint.rollback()
        with pytest.raises(ArithmeticError):
            handler.runner.execute("call_back", {"n": 1})
        handler.mailer.charge(2)

    do(tries)
    bus.execute("call_back", {"n": 0})
    assert till.amounts() == [1, 2]
    performed = list(bus.journal.read(action="perform_mailer", kind="outcome"))
    assert [record.status for record in performed] == ["failed", "failed", "succeeded", "succeeded"]
    assert bus.runs.all() == []


def test_a_nested_action_postpones_to_the_commit_of_the_outermost(bus: Bus, till: type[Till]) -> None:
    def outer(handler: Any) -> Any:
        if handler.args.n:
            return charges(handler)
        inner = handler.runner.execute("call_back", {"n": 3})
        assert till.asked == []
        return inner.action_id

    do(outer)
    inner = bus.execute("call_back").result
    assert till.amounts() == [5]
    [performed] = bus.journal.read(action="perform_mailer", kind="outcome")
    assert str(performed.cause_id) == inner


def test_an_attempt_that_is_made_again_postpones_once(make_postgres_bus: BusFactory, till: type[Till]) -> None:
    attempts: list[str] = []

    def contended(handler: Any) -> Any:
        attempts.append(handler.mailer.charge(len(attempts)).key)
        if len(attempts) < 3:
            handler.session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))

    do(contended)
    make_postgres_bus(application()).execute("call_back")
    assert len(attempts) == 3
    assert set(attempts) == {attempts[0]}, "the key is that of the action, whichever attempt it is"
    assert till.amounts() == [2]


def test_many_actions_in_chunks(bus: Bus, till: type[Till]) -> None:
    def some(handler: Any) -> None:
        handler.mailer.charge(handler.args.n)
        if handler.args.n % 3 == 0:
            raise ArithmeticError

    do(some)
    outcomes = bus.runner("ana").execute_many([("call_back", {"n": n}) for n in range(1, 10)])
    assert [each.status for each in outcomes].count("failed") == 3
    assert till.amounts() == [1, 2, 4, 5, 7, 8]
    assert bus.runs.all() == []


def test_workers_make_the_calls_where_they_are_to(queueing: Bus, make_bus: BusFactory, till: type[Till]) -> None:
    do(charges)
    queueing.execute("call_back", {"n": 1})
    assert till.asked == []
    work(queueing)
    assert till.amounts() == [5]
    carried = make_bus(application(), broker=(broker := HeldBroker()))
    carried.execute("call_back", {"n": 2})
    assert len(till.asked) == 1
    [outcome] = broker.run(carried)
    assert (outcome.action, len(till.asked)) == ("perform_mailer", 2)


def test_a_queued_action_postpones_too(bus: Bus, till: type[Till]) -> None:
    do(charges)
    bus.runner("ana").execute_async("call_back", {"n": 1})
    work(bus)
    assert till.amounts() == [5]


def test_a_preview_shows_the_call_and_makes_none(bus: Bus, till: type[Till]) -> None:
    do(charges)
    seen = bus.runner("ana").preview("call_back", {"n": 1})
    assert seen.outcome.status == "succeeded"
    [(action, arguments)] = seen.queued
    assert (action, arguments["call"], arguments["positional"]) == ("perform_mailer", "mailer.charge", [5])
    assert (till.asked, seen.refused, list(bus.journal.read())) == ([], (), [])


def test_what_gives_no_json_was_called_all_the_same(bus: Bus, till: type[Till]) -> None:
    do(lambda handler: handler.mailer.take_object().action_id)
    performed = bus.journal.outcome(bus.execute("call_back").result)
    assert performed is not None
    assert (performed.status, performed.result, len(till.asked)) == ("succeeded", None, 1)


def test_objects_in_its_place_are_called_in_its_place(bus: Bus, till: type[Till]) -> None:
    class Fake:
        amounts: list[int] = []

        def charge(self, amount: int, **_: Any) -> None:
            self.amounts.append(amount)

    do(charges)
    bus.runner("ana", overrides={"mailer": Fake()}).execute("call_back", {"n": 1})
    assert (Fake.amounts, till.asked) == ([5], [])


def test_nobody_else_asks_for_the_action_that_calls(bus: Bus, till: type[Till]) -> None:
    arguments = {"call": "mailer.charge", "positional": [1], "key": "mine"}
    runner = bus.runner("ana", operator=True)
    for ask in (runner.execute, runner.execute_async):
        with pytest.raises(PermissionDenied):
            ask("perform_mailer", arguments)
    [outcome] = runner.execute_many([("perform_mailer", arguments)])
    assert outcome.status == "denied"
    assert runner.preview("perform_mailer", arguments).outcome.status == "denied"
    for name in ("execute", "execute_async"):
        do(lambda handler, name=name: getattr(handler.runner, name)("perform_mailer", arguments))
        with pytest.raises(Misuse):
            bus.execute("call_back")
    assert till.asked == []
    assert "perform_mailer" not in [action.name for action in bus.registry.everyday()]


def test_too_many_arguments_fail_the_action_at_once(bus: Bus) -> None:
    do(lambda handler: handler.mailer.charge("x" * 70_000))
    with pytest.raises(Misuse, match="give ids"):
        bus.execute("call_back")
    with pytest.raises(InvalidArguments):
        bus.execute("call_back", {"n": "x"})


def test_a_call_is_public() -> None:
    assert PostponedCall.__module__ == "actionbus"
