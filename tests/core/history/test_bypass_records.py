"""Those who read the journal live with records of writes past the gateway."""

from __future__ import annotations

from datetime import timedelta

from actionbus.replay.past.history import entries
from tests.conftest import BusFactory
from tests.core.history.capturing import Captured
from tests.helpers import opened
from tests.shop.app import make_application


def test_a_bypass_is_read_shown_and_nothing_to_run_again(make_postgres_bus: BusFactory) -> None:
    bus = opened(make_postgres_bus(make_application()), 1)
    captured = Captured(bus)
    captured.install("accounts")
    captured.run("SET LOCAL application_name = 'psql'", "UPDATE accounts SET balance = 5")
    [installed, record] = bus.journal.read(kind="bypass")
    assert record.context is not None
    assert (record.context["application"], record.status, record.action) == ("psql", None, "")
    assert installed.context is not None
    assert installed.context["baseline"] == ["public.accounts"]
    assert bus.journal.get(record.action_id) == record
    assert [each.kind for each in bus.journal.read(kind=("bypass", "outcome"))] == ["outcome", "bypass", "bypass"]
    assert [each.outcome.action for each in entries(bus.journal)] == ["open_account"]
    assert bus.recover(timedelta(0)).interrupted == []
