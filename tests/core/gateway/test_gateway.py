"""What a call through the gateway does: records, statuses, errors, nesting, determinism."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from actionbus import (
    ActionFailed,
    Bus,
    InvalidArguments,
    Misuse,
    PermissionDenied,
    UnknownAction,
)
from tests.conftest import BusFactory
from tests.helpers import balance, opened
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Mailer


def test_a_success_leaves_two_records_that_tell_everything(bus: Bus) -> None:
    bus.create()  # and with it what records rows
    opened(bus, 1)
    runner = bus.runner("ann", correlation_id="c-1", context={"ip": "::1"})
    outcome = runner.execute("deposit", {"id": "1", "amount": 5})
    assert (outcome.status, outcome.result, outcome.repeated) == ("succeeded", {"balance": 5}, False)
    submitted, came = bus.journal.history(outcome.action_id)
    assert (submitted.kind, submitted.status, submitted.arguments) == ("submitted", None, {"id": "1", "amount": 5})
    assert (submitted.actor, submitted.correlation_id, submitted.context) == ("ann", "c-1", {"ip": "::1"})
    assert submitted.release == came.release == "shop 1"
    assert len(submitted.seed or "") == 32
    assert came.seed is None
    assert came.position == outcome.position > submitted.position
    assert (came.kind, came.status, came.result) == ("outcome", "succeeded", {"balance": 5})
    assert came.arguments == {"id": 1, "amount": 5, "note": None}
    assert came.handler_version == 2
    assert came.seen is not None
    assert came.started_at is not None
    assert came.started_at.tzinfo is not None
    assert (came.duration_us or 0) > 0
    assert [(change.table.removeprefix("public."), change.operation) for change in came.touched] == [
        ("accounts", "update"),
        ("entries", "insert"),
    ]
    assert submitted.touched == []


def test_an_action_by_itself_has_the_records_of_one_in_a_correlation(bus: Bus) -> None:
    bus.create()
    opened(bus, 1)
    arguments = {"id": 1, "amount": 5}
    alone = bus.runner("ann", context={"ip": "::1"}).execute("deposit", arguments).action_id
    along = bus.runner("ann", context={"ip": "::1"}, correlation_id="c-1").execute("deposit", arguments).action_id
    assert {record.correlation_id for record in bus.journal.history(alone)} == {str(alone)}
    told = [
        [
            (
                *(record.kind, record.status, record.action, record.handler_version, record.actor, record.cause_id),
                *(record.release, record.context, record.arguments, record.error, record.calls, record.format),
                *(value is None for value in (record.started_at, record.seed, record.xid, record.seen, record.result)),
                record.duration_us is None,
            )
            for record in bus.journal.history(action_id)
        ]
        for action_id in (alone, along)
    ]
    assert told[0] == told[1]


def test_all_errors_come_back_at_once_and_nothing_changes(bus: Bus) -> None:
    with pytest.raises(InvalidArguments) as caught:
        bus.execute("deposit", {"id": "x", "amount": 5.7, "colour": "red"})
    assert set(caught.value.errors) == {"id", "amount", "colour"}
    record = bus.journal.get(caught.value.action_id)  # type: ignore[arg-type]
    assert record
    assert record.status == "rejected"
    assert record.error
    assert record.error["errors"]["colour"] == ["Unknown field."]
    submitted = bus.journal.history(record.action_id)[0]
    assert submitted.arguments == {"id": "x", "amount": 5.7, "colour": {"$redacted": True}}


def test_rejections_of_validate_are_collected(bus: Bus) -> None:
    with pytest.raises(InvalidArguments) as caught:
        bus.execute("deposit", {"id": 9, "amount": -1})
    assert caught.value.errors == {"id": ["no such account"], "amount": ["must be positive"]}


@pytest.mark.parametrize(
    "name", ["nope", "", "Deposit", "os.path", "../x", "deposit\0", "a" * 500, 7, None, "__init__"]
)
def test_an_unknown_action_is_kept_and_rejected(bus: Bus, name: Any) -> None:
    with pytest.raises(UnknownAction) as caught:
        bus.execute(name, {"password": "hunter2"})
    submitted, came = bus.journal.history(caught.value.action_id)  # type: ignore[arg-type]
    assert submitted.arguments == {"password": {"$redacted": True}}
    assert came.status == "rejected"


def test_permission_is_asked_before_validate(bus: Bus) -> None:
    with pytest.raises(PermissionDenied) as caught:
        bus.execute("deposit", {"id": 9, "amount": -1}, actor="mallory")
    record = bus.journal.get(caught.value.action_id)  # type: ignore[arg-type]
    assert record
    assert (record.status, record.actor) == ("denied", "mallory")


def test_an_exception_reaches_the_caller_as_itself_and_rolls_back(bus: Bus) -> None:
    opened(bus, 1)
    with pytest.raises(ArithmeticError) as caught:
        bus.execute("withdraw", {"id": 1, "amount": 5})
    assert balance(bus, 1) == 0
    record = bus.journal.tail(1)[0]
    assert str(record.action_id) in caught.value.__notes__[0]
    assert record.error
    assert (record.status, record.error["type"]) == ("failed", "builtins:ArithmeticError")
    assert any("withdraw.py" in line for line in record.error["traceback"])
    assert record.touched == []


def test_ctrl_c_in_a_handler_rolls_back_and_is_recorded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handler: Any) -> None:
        handler.session.add(Account(id=5, name="five"))
        handler.session.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(CallBack, "function", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bus.execute("call_back")
    assert bus.journal.tail(1)[0].status == "failed"
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM accounts")).scalar() == 0


def test_nested_actions_commit_with_the_outer_one_and_carry_its_id(bus: Bus) -> None:
    opened(bus, 1, 2)
    bus.execute("deposit", {"id": 1, "amount": 10})
    outcome = bus.execute("transfer", {"source": 1, "target": 2, "amount": 4}, correlation_id="c", actor="ann")
    history = bus.journal.history(outcome.action_id)
    assert [(r.kind, r.action) for r in history] == [
        ("submitted", "transfer"),
        ("submitted", "withdraw"),
        ("outcome", "withdraw"),
        ("submitted", "deposit"),
        ("outcome", "deposit"),
        ("outcome", "transfer"),
    ]
    assert {r.cause_id for r in history[1:5]} == {outcome.action_id}
    assert {r.correlation_id for r in history} == {"c"}
    assert {r.actor for r in history} == {"ann"}
    assert (balance(bus, 1), balance(bus, 2)) == (6, 4)


def test_a_nested_failure_that_escapes_leaves_the_outer_failure_alone(bus: Bus) -> None:
    opened(bus, 1, 2)
    with pytest.raises(ArithmeticError):
        bus.execute("transfer", {"source": 1, "target": 2, "amount": 4})
    last = bus.journal.tail(1)[0]
    assert [(r.kind, r.action) for r in bus.journal.history(last.action_id)] == [
        ("submitted", "transfer"),
        ("outcome", "transfer"),
    ]
    assert balance(bus, 1) == 0


def test_a_nested_failure_that_is_caught_stays_on_record(bus: Bus) -> None:
    opened(bus, 1, 2)
    outcome = bus.execute("transfer", {"source": 1, "target": 2, "amount": 4, "go_on": True})
    history = bus.journal.history(outcome.action_id)
    assert [(r.action, r.status) for r in history if r.kind == "outcome"] == [
        ("withdraw", "failed"),
        ("transfer", "succeeded"),
    ]
    assert balance(bus, 1) == 0


def test_a_nested_success_inside_a_savepoint_that_is_rolled_back_is_no_success(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(bus, 1)

    def roll_back(handler: Any) -> None:
        with pytest.raises(ZeroDivisionError), handler.session.begin_nested():
            handler.runner.execute("deposit", {"id": 1, "amount": 4})
            raise ZeroDivisionError

    monkeypatch.setattr(CallBack, "function", roll_back)
    outcome = bus.execute("call_back")
    assert [(r.action, r.status) for r in bus.journal.history(outcome.action_id) if r.kind == "outcome"] == [
        ("deposit", "failed"),
        ("call_back", "succeeded"),
    ]
    record = bus.journal.get(outcome.action_id)
    assert record
    assert record.touched == []
    assert balance(bus, 1) == 0


def test_the_transaction_is_the_gateways_to_end(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Any] = [
        lambda h: h.session.commit(),
        lambda h: h.session.rollback(),
        lambda h: h.session.close(),
        lambda h: h.session.connection().commit(),
        lambda h: h.session.connection().exec_driver_sql("COMMIT"),
        lambda h: h.session.execute(text("rollback")),
    ]

    for attempt in attempts:

        def try_to(handler: Any, attempt: Any = attempt) -> None:
            handler.session.add(Account(id=1, name="one"))
            handler.session.flush()
            attempt(handler)

        monkeypatch.setattr(CallBack, "function", try_to)
        with pytest.raises(Misuse, match="begin_nested"):
            bus.execute("call_back")
        with bus.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM accounts")).scalar() == 0


def test_a_swallowed_database_error_does_not_become_a_half_success(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(bus, 1)

    def swallow(handler: Any) -> str:
        handler.session.add(Account(id=7, name="seven"))
        handler.session.flush()
        try:
            handler.session.add(Account(id=1, name="again"))
            handler.session.flush()
        except Exception:
            return "fine"
        raise AssertionError

    monkeypatch.setattr(CallBack, "function", swallow)
    with pytest.raises(Misuse, match="rolled the transaction back"):
        bus.execute("call_back")
    with bus.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM accounts")).scalar() == 1


def test_a_handler_must_not_use_another_runner(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CallBack, "function", lambda h: bus.execute("deposit", {"id": 1}))
    with pytest.raises(Misuse, match=r"self\.runner"):
        bus.execute("call_back")


def test_clock_ids_and_random_come_from_what_the_journal_keeps(bus: Bus) -> None:
    outcome = bus.execute("draw", actor="ann", context={"a": 1})
    result = outcome.result
    assert result["now"] == result["again"]
    assert result["id"] != result["other"]
    record = bus.journal.get(outcome.action_id)
    assert record
    assert record.started_at == datetime.fromisoformat(result["now"])
    from actionbus.core.values.determinism import Ids, seeded_random

    seed = bus.journal.history(outcome.action_id)[0].seed or ""
    assert str(Ids(seed, record.started_at).uuid()) == result["id"]
    assert UUID(result["id"]).version == 7
    assert seeded_random(seed).random() == result["number"]
    assert result["context"] == {"a": 1}
    assert result["token"] == "[secret]"


def test_outside_calls_are_recorded_with_arguments_and_returns(bus: Bus) -> None:
    Mailer.sent.clear()
    outcome = bus.execute("notify", {"to": "bob"})
    record = bus.journal.get(outcome.action_id)
    assert record
    assert record.calls == [
        {"call": "mailer.send", "args": ["bob"], "kwargs": {"text": "hello"}, "returned": "receipt 1"}
    ]
    with pytest.raises(ConnectionError):
        bus.execute("notify", {"to": "nobody"})
    failed = bus.journal.tail(1)[0]
    assert failed.calls
    assert failed.calls[0]["raised"]["class"] == "builtins:ConnectionError"


def test_two_log_lines_per_action(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    bus.execute("draw")  # the first one warns of tables that are not recorded
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="actionbus"):
        outcome = bus.execute("draw", actor="ann")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0] == f"draw submitted, action {outcome.action_id}"
    assert lines[1] == "drawing for ann"
    assert lines[2].startswith("draw succeeded in ")


def test_overrides_replace_dependencies(bus: Bus) -> None:
    class Fake:
        def send(self, to: str, text: str) -> str:
            return "faked"

    assert bus.runner(overrides={"mailer": Fake()}).execute("notify", {"to": "bob"}).result == {"receipt": "faked"}


def test_two_buses_on_one_database_see_one_journal(make_bus: BusFactory) -> None:
    one, other = make_bus(), make_bus()
    opened(one, 1)
    assert other.execute("deposit", {"id": 1}).result == {"balance": 1}
    assert [r.position for r in one.journal.read()] == [r.position for r in other.journal.read()]


def test_actor_and_context_are_checked_when_the_runner_is_made(bus: Bus) -> None:
    for bad in ("", "a\0", "x" * 201, "a\nb", 7):
        with pytest.raises(ValueError, match="actor"):
            bus.runner(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="context"):
        bus.runner("ann", context={"f": object()})


def test_a_repeated_failure_carries_its_outcome(bus: Bus) -> None:
    for error in (LookupError, ActionFailed):
        with pytest.raises(error) as caught:
            bus.execute("withdraw", {"id": 1, "amount": 1}, idempotency_key="k")
    assert isinstance(caught.value, ActionFailed)
    assert caught.value.outcome.status == "failed"


def test_generator_dependencies_are_cleaned_up_after_the_action(make_bus: BusFactory) -> None:
    from tests.shop.app import Repo, checkpoint, make_application, outside

    seen: list[str] = []

    def repo(session: Any) -> Any:
        seen.append("made")
        yield Repo(session)
        seen.append("closed")

    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    bus = make_bus(make_application(dependencies=dependencies))
    opened(bus, 1)
    with pytest.raises(LookupError):
        bus.execute("withdraw", {"id": 3, "amount": 1})
    assert seen == ["made", "closed"] * 2
