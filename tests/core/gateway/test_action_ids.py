"""An action's id is taken as JSON, URLs and the command line hand it out, as well as a UUID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from actionbus import Bus
from tests.conftest import BusFactory
from tests.core.queues import Broker

SPELLINGS: list[Callable[[UUID], Any]] = [
    lambda known: known,
    str,
    lambda known: known.hex,
    lambda known: str(known).upper(),
]


@pytest.fixture
def bus(make_bus: BusFactory) -> Bus:
    return make_bus(broker=Broker())


@pytest.mark.parametrize("spelt", SPELLINGS, ids=["UUID", "text", "hex", "upper case"])
def test_text_is_as_good_as_a_uuid(bus: Bus, spelt: Callable[[UUID], Any]) -> None:
    ticket = bus.runner("ana").execute_async("call_back", {})
    known = spelt(ticket.action_id)
    assert bus.runs.get(known) == bus.runs.get(ticket.action_id) is not None
    assert bus.journal.outcome(known) is None
    outcome = bus.run_queued(known)
    assert outcome is not None
    journal = bus.journal
    assert journal.get(known) == journal.outcome(known) == journal.at(outcome.position)
    assert [journal.submitted(known), journal.outcome(known)] == journal.history(known)
    assert list(journal.read(cause_id=known)) == []


READERS: list[Callable[[Bus, Any], Any]] = [
    lambda bus, known: bus.run_queued(known),
    lambda bus, known: bus.journal.get(known),
    lambda bus, known: bus.journal.outcome(known),
    lambda bus, known: bus.journal.submitted(known),
    lambda bus, known: bus.journal.history(known),
    lambda bus, known: list(bus.journal.read(cause_id=known)),
    lambda bus, known: bus.runs.get(known),
]


@pytest.mark.parametrize(
    "wrong", ["", "no-such", "0" * 31, 7, b"0" * 16, ["a"], "\x1b[2J" * 1000, f"{UUID(int=7)}; --"]
)
def test_anything_else_is_a_clear_error(bus: Bus, wrong: Any) -> None:
    for reader in READERS:
        with pytest.raises(ValueError, match=r"an action's id is a UUID or its text, not") as caught:
            reader(bus, wrong)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


def test_an_id_that_nobody_has_is_not_found(bus: Bus) -> None:
    for reader in READERS:
        assert not reader(bus, str(uuid4()))
