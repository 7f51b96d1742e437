"""Personal values of actions that run later: by a worker, and again in a sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, InvalidArguments, Retry
from actionbus.core.storage.queue_state import Queues
from actionbus.core.values.payload import ERASED
from actionbus.replay import Replayer
from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import Clinic
from tests.core.queues import Broker
from tests.servers import Server

ADA = {"patient_id": 1, "name": "Ada Lovelace"}


@pytest.fixture
def sandbox(url: URL, server: Server) -> Iterator[URL | str]:
    """A sandbox of the same dialect."""
    if url.get_backend_name() == "sqlite":
        yield "sqlite://"
        return
    made = server.database()
    yield made
    server.drop(made)


def greet(handler: Any) -> Any:
    return {"hello": handler.args.name}


def test_a_worker_gets_clear_values(clinic: Clinic) -> None:
    Admit.function = greet
    queue = Broker()
    with Bus(clinic.application, clinic.url, broker=queue) as bus:
        ticket = bus.runner().execute_async("admit", ADA)
        (outcome,) = queue.run(bus)
        assert outcome.result == {"hello": "Ada Lovelace"}
        assert bus.erase(1).keys == 1
        record = bus.journal.outcome(ticket.action_id)
        assert record is not None
        assert (record.arguments["name"], record.result) == (ERASED, {"hello": "[erased]"})


def test_what_was_erased_before_it_was_run_is_rejected(clinic: Clinic) -> None:
    Admit.function = greet
    queue = Broker()
    with Bus(clinic.application, clinic.url, broker=queue) as bus:
        ticket = bus.runner().execute_async("admit", {**ADA, "details": {"a": "penicillin"}})
        bus.erase(1)
        with pytest.raises(InvalidArguments, match="was erased") as caught:
            bus.run_queued(ticket.action_id)
        assert set(caught.value.errors) == {"name", "details"}
        record = bus.journal.outcome(ticket.action_id)
        assert record is not None
        assert record.status == "rejected"
        assert bus.runs.get(ticket.action_id) is None


def refuse(handler: Any) -> Any:
    raise RuntimeError(f"cannot admit {handler.args.name}, who is ill")


def test_the_queue_keeps_no_personal_value_of_what_went_wrong(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admit, "retry", Retry(on=(RuntimeError,), attempts=2, backoff=0.0), raising=False)
    Admit.function = refuse
    told = "RuntimeError: cannot admit [personal], who is ill"
    queue = Broker()
    with Bus(clinic.application, clinic.url, broker=queue) as bus:
        ticket = bus.runner().execute_async("admit", ADA)
        bus.run_queued(ticket.action_id)
        waiting = bus.runs.get(ticket.action_id)
        assert waiting is not None
        assert waiting.problem == told
        with pytest.raises(RuntimeError):
            bus.run_queued(ticket.action_id)
        assert [each.problem for each in Queues(bus.backend).dead_letters()] == [told]
        record = bus.journal.outcome(ticket.action_id)
        assert record is not None
        assert "Ada Lovelace" in record.error["message"], "the journal has it, under its subject's key"


def test_what_a_handler_queues_has_its_key(clinic: Clinic) -> None:
    Admit.function = lambda handler: handler.runner.execute_async("admit", {**ADA, "patient_id": 2}) and None
    queue = Broker()
    with Bus(clinic.application, clinic.url, broker=queue) as bus:
        bus.execute("admit", ADA)
        Admit.function = greet
        (outcome,) = queue.run(bus)
        assert outcome.result == {"hello": "Ada Lovelace"}


def by_patient(handler: Any) -> Any:
    """For the third by an action inside, that is of the first."""
    is_third = handler.args.patient_id == 3
    return handler.runner.execute("admit", ADA).result if is_third else greet(handler)


@pytest.mark.parametrize("is_erased", [False, True])
def test_replay_sees_clear_values_and_no_divergence_in_erased_ones(
    clinic: Clinic, sandbox: URL | str, is_erased: bool
) -> None:
    Admit.function = by_patient
    for patient, name in ((1, "Ada Lovelace"), (2, "Bob Smith"), (3, "Cyd Charisse")):
        clinic.bus.execute("admit", {"patient_id": patient, "name": name})
    if is_erased:
        clinic.bus.erase(1)
    with Replayer(clinic.bus.journal, clinic.application, sandbox) as replayer:
        told = [(step.record.action, step.verdict, step.why) for step in replayer.verify()]
    erased = ("admit", "unplayable", "personal values of it were erased with their subject")
    itself = ("erase_subject", "unplayable", "it erased a subject, whom no record names")
    same = ("admit", "same", None)
    assert told == ([erased, same, erased, itself] if is_erased else [same] * 3)
