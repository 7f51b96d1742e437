"""An action that is gone is retired, however it ended; one that there never was is refused as it was then."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.replay import Replayer
from tests.replay.conftest import NewSandbox, open_bus
from tests.shop.app import make_application

ALL = ("succeeded", "failed", "rejected", "denied")


def gone(bus: Bus) -> None:
    """Actions of every status, and reverts, which no application has."""
    bus.execute("open_account", {"id": 1, "name": "ann"}, actor="ann")
    opened = bus.journal.tail(1)[0].action_id
    for name, arguments, actor in (
        ("withdraw", {"id": 1, "amount": 500}, "ann"),
        ("open_account", {"id": "x"}, "ann"),
        ("nowhere", {}, "ann"),
    ):
        with suppress(Exception):
            bus.execute(name, arguments, actor=actor)
    for actor in ("mallory", "ann"):
        with suppress(Exception):
            bus.runner(actor=actor).revert(opened)


def test_what_is_gone_is_retired_however_it_ended(url: URL, new_sandbox: NewSandbox) -> None:
    with open_bus(make_application(), url) as bus:
        gone(bus)
        left = Application("shop", actions=["tests.core.no_actions"], models=make_application().models)
        with Replayer(bus.journal, left, new_sandbox()) as replayer:
            told = {
                (each.entry.outcome.action, each.entry.outcome.status): each.verdict
                for each in replayer.verify(statuses=ALL)
            }
        with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
            unchanged = {each.entry.outcome.action: each.verdict for each in replayer.verify(statuses=ALL)}
    assert told.pop(("nowhere", "rejected")) == "same"
    assert told.pop(("revert_action", "succeeded")) == "unplayable"
    assert {status for _, status in told} >= {"succeeded", "failed", "rejected", "denied"}
    assert set(told.values()) == {"retired"}
    assert "divergent" not in unchanged.values()
