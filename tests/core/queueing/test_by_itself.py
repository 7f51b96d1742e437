"""What died is recovered without anybody asking: dispatchers look once a minute, at what is older than a minute."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event

from actionbus import Bus, Dispatcher, JournalUnavailable
from actionbus.core.queueing import dispatcher
from actionbus.core.queueing.dispatcher import RECOVER_EVERY_S, Recovery
from tests.conftest import BusFactory
from tests.helpers import abandon
from tests.waiting import eventually


def test_a_dispatcher_recovers_once_a_minute(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(dispatcher.time, "monotonic", lambda: clock[0])
    old, young = abandon(bus), abandon(bus, recorded_at=datetime.now(UTC))
    running = Dispatcher(bus)
    running.turn()
    outcome = bus.journal.outcome(old)
    assert outcome is not None
    assert outcome.status == "interrupted"
    assert bus.journal.outcome(young) is None
    later = abandon(bus)
    running.turn()
    assert bus.journal.outcome(later) is None, "not at every turn"
    clock[0] += RECOVER_EVERY_S
    running.turn()
    assert bus.journal.outcome(later) is not None


def test_what_waits_in_the_queue_is_not_asked_for_one_by_one(bus: Bus) -> None:
    bus.execute("open_account", {"id": 1, "name": "a"})
    for _ in range(20):
        bus.runner("ana").execute_async("deposit", {"id": 1}, countdown=3600)
    statements: list[Any] = []
    event.listen(bus.backend.gateway, "before_cursor_execute", lambda *told: statements.append(told[2]))
    assert len(bus.recover().too_young) == 0
    assert len(statements) < 20


def test_a_role_that_may_not_write_leaves_it_to_others(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus = make_bus()

    def refused(*_: Any) -> None:
        raise JournalUnavailable("no right")

    monkeypatch.setattr(dispatcher, "recover", refused)
    recovery, stop = Recovery(bus), threading.Event()
    thread = threading.Thread(target=recovery.run, args=[stop])
    with caplog.at_level(logging.INFO, "actionbus"):
        thread.start()
        eventually(lambda: "left to processes that may write the journal" in caplog.text, "it says so")
    assert not recovery.is_due()
    stop.set()
    thread.join()
