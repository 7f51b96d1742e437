"""What operators decide about queued actions: each decision an action on record, with a permission."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from actionbus import ActionFailed, Bus, ConfigurationError, InvalidArguments, PermissionDenied
from actionbus.core.queueing.claiming import settle_cancelled
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.queueing.worker import Worker
from actionbus.core.storage.queue_state import Queues
from tests.core.queueing.steps import Make, make, rows, steps
from tests.queued.actions.take_step import TakeStep
from tests.queued.app import make_application
from tests.waiting import PATIENCE_S, eventually

__all__ = ["make"]


@pytest.fixture
def bus(make: Make) -> Bus:
    """With workers that claim for themselves."""
    return make()


def queue(bus: Bus, number: int = 1, **options: Any) -> Any:
    return bus.runner("ana", context={"tenant": "x"}).execute_async(
        "take_step", {"track": "a", "number": number}, **options
    )


def decisions(bus: Bus) -> list[tuple[str, str | None, str | None]]:
    names = {"cancel_run", "retry_run", "reschedule_run", "pause_queue", "resume_queue"}
    return [(r.action, r.actor, r.status) for r in bus.journal.read(kind="outcome") if r.action in names]


def test_cancelled_before_it_begins_it_never_runs_and_says_by_what(bus: Bus) -> None:
    ticket = queue(bus)
    behind = queue(bus, 2)
    done = bus.runner("olga", operator=True).cancel(ticket.action_id)
    assert done.result["was"] == "waiting"
    with pytest.raises(ActionFailed) as failed:
        ticket.wait(0)
    error = failed.value.outcome.error
    assert error is not None
    assert error["type"] == "actionbus:ActionCancelled"
    assert str(done.action_id) in error["message"]
    assert decisions(bus) == [("cancel_run", "olga", "succeeded")]
    assert Worker(bus).run_due() == 1, "what waited behind it goes on"
    assert behind.wait(0).result == {"number": 2}
    assert Queues(bus.backend).dead_letters() == [], "it is what was wished"


def test_a_cancelled_one_is_settled_though_who_cancelled_it_died(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actionbus.core.queueing.operating.settle_cancelled", lambda *_: None)
    ticket = queue(bus)
    bus.runner("olga", operator=True).cancel(ticket.action_id)
    assert Worker(bus).run_due() == 0, "no worker begins it"
    assert bus.journal.outcome(ticket.action_id) is None
    Dispatcher(bus).turn()
    with pytest.raises(ActionFailed):
        ticket.wait(0)


def test_a_message_for_a_cancelled_one_settles_it(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actionbus.core.queueing.operating.settle_cancelled", lambda *_: None)
    ticket = queue(bus)
    bus.runner("olga", operator=True).cancel(ticket.action_id)
    assert bus.run_queued(ticket.action_id) is None
    assert ticket.state == "done"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # on SQLite it holds the one writer's lock
def test_one_that_runs_is_asked_and_ends_by_itself(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "begun"
    ticket = bus.runner("ana").execute_async("stay", {"file": str(file)})
    stop = threading.Event()
    worker = threading.Thread(target=Worker(bus).run, args=[stop])
    worker.start()
    try:
        eventually(file.exists, "it has begun")
        assert bus.runner("olga", operator=True).cancel(ticket.action_id).result["was"] == "running"
        with pytest.raises(ActionFailed, match="as was wished"):
            ticket.wait(PATIENCE_S)
    finally:
        stop.set()
        worker.join()
    assert Queues(bus.backend).dead_letters() == []


def test_one_that_is_cancelled_while_an_attempt_fails_is_not_begun_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = queue(bus, countdown=0)

    def cancelled_meanwhile(handler: Any) -> None:
        raise TakeStep.retry.on[0]("once more")  # type: ignore[union-attr]

    monkeypatch.setattr(TakeStep, "execute", cancelled_meanwhile)
    assert bus.run_queued(ticket.action_id) is None
    bus.runner("olga", operator=True).cancel(ticket.action_id)
    assert Worker(bus).run_due() == 0
    assert ticket.state == "done"


def test_a_cancellation_does_not_overtake_an_attempt(bus: Bus) -> None:
    """Who settles what was cancelled looks at the row under the lock: one that runs meanwhile is left to its worker."""
    ticket = queue(bus)
    run = bus.runs.get(ticket.action_id)
    assert run is not None
    with bus.backend.connection() as connection:
        assert bus.services.claims.take(connection, "w", 60.0)
    assert settle_cancelled(bus.services, run) is False
    assert bus.journal.outcome(ticket.action_id) is None


def test_what_ended_badly_is_listed_and_run_again_for_who_asked(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = queue(bus, 7)
    with pytest.MonkeyPatch.context() as patch:

        def broken(handler: Any) -> None:
            raise ValueError("broken code")

        patch.setattr(TakeStep, "execute", broken)
        Worker(bus).run_due()
    [dead] = Queues(bus.backend).dead_letters()
    assert (dead.action_id, dead.action, dead.problem) == (ticket.action_id, "take_step", "ValueError: broken code")
    operator = bus.runner("olga", operator=True)
    done = operator.retry(ticket.action_id)
    assert Queues(bus.backend).dead_letters() == []
    assert Worker(bus).run_due() == 1
    assert steps(bus) == [("a", 7)]
    again = bus.journal.get(done.result["again"])
    assert again is not None
    assert (again.actor, again.cause_id, again.status) == ("ana", done.action_id, "succeeded")
    submitted = bus.journal.submitted(again.action_id)
    assert submitted is not None
    assert submitted.context == {"tenant": "x"}
    with pytest.raises(InvalidArguments, match="is no dead letter, or no more"):
        operator.retry(ticket.action_id)
    assert len(steps(bus)) == 1, "it was run again once"


def test_a_dead_letter_can_be_taken_off_the_list(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = queue(bus)

    def broken(handler: Any) -> None:
        raise ValueError

    monkeypatch.setattr(TakeStep, "execute", broken)
    Worker(bus).run_due()
    assert bus.runner("olga", operator=True).cancel(ticket.action_id).result["was"] == "dead"
    assert Queues(bus.backend).dead_letters() == []


def test_another_time_and_now(bus: Bus) -> None:
    ticket = queue(bus, countdown=3600)
    operator = bus.runner("olga", operator=True)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert datetime.fromisoformat(operator.reschedule(ticket.action_id, tomorrow).result["due_at"]) == tomorrow
    assert Worker(bus).run_due() == 0
    operator.reschedule(ticket.action_id)
    assert Worker(bus).run_due() == 1
    with pytest.raises(InvalidArguments, match="no action that waits in a queue"):
        operator.reschedule(ticket.action_id)


def test_of_a_key_what_is_put_off_lets_the_next_one_go(bus: Bus) -> None:
    first, second = queue(bus, 1), queue(bus, 2)
    bus.runner("olga", operator=True).reschedule(first.action_id, datetime.now(UTC) + timedelta(hours=1))
    assert Worker(bus).run_due() == 1
    assert second.state == "done"


@pytest.mark.parametrize("name", ["cancel", "retry", "reschedule"])
def test_what_is_not_there_is_refused_and_on_record(bus: Bus, name: str) -> None:
    with pytest.raises(InvalidArguments, match="action_id"):
        getattr(bus.runner("olga", operator=True), name)(uuid4())
    assert [status for _, _, status in decisions(bus)] == ["rejected"]


def test_a_queue_that_nobody_knows_is_not_paused(bus: Bus) -> None:
    with pytest.raises(InvalidArguments, match="is the name of no queue; there are: actions, clock, narrow, stay"):
        bus.runner("olga", operator=True).pause("narow")


class Grants:
    """Lets one person operate."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        if permission == "runs:operate" and self.actor != "olga":
            raise PermissionDenied(f"{self.actor} may not {permission}")


def test_only_operators_or_whom_the_checkpoint_lets(make: Make) -> None:
    plain = make()
    ticket = queue(plain)
    with pytest.raises(PermissionDenied, match="runs:operate"):
        plain.runner("olga").cancel(ticket.action_id)
    guarded = make(make_application(dependencies={"checkpoint": Grants}))
    with pytest.raises(PermissionDenied, match="mallory may not"):
        guarded.runner("mallory").pause("narrow")
    assert guarded.runner("olga").cancel(ticket.action_id).status == "succeeded"
    assert rows(plain, "SELECT count(*) FROM actionbus_queues WHERE paused = 1")[0][0] == 0


def test_an_applications_own_action_may_not_have_such_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "clashing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "pause_queue.py").write_text(
        "from actionbus import ActionHandler\nclass PauseQueue(ActionHandler):\n    def execute(self):\n        return {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match="has the name of an action of actionbus"):
        Bus(make_application(actions=["clashing"]), "sqlite://")


def test_they_are_no_part_of_the_catalogue(bus: Bus) -> None:
    assert "pause_queue" not in {action.name for action in bus.registry}
