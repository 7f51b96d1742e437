"""What a reducer, a store or a subscription says may be as long as a document; what is kept and shown of it may not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, Record
from actionbus.adapters import database
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import Projection, ProjectionStopped, Projector, Subscription, on
from actionbus.projections import delivery as delivering
from actionbus.projections.errors import LONGEST_TOLD, DocumentsRefused, shortened
from actionbus.projections.store import Write
from tests.projections.conftest import PAIRS, MakeWorld, World

LONG = "begin " + "x" * 100_000 + " end"
MOST = 4 * LONGEST_TOLD
"""Of one stop: a message, the error in it, a traceback, and what stands around them."""


class Wordy(Projection):
    """Fails with all that it was given."""

    @on("put_note", key="note")
    def put(self, document: object, record: Record) -> dict[str, object]:
        """Whatever it is."""
        raise RuntimeError(record.arguments["text"])


class Plain(Projection):
    """Takes everything, so that it is for the store to refuse it."""

    @on("put_note", key="note")
    def put(self, document: object, record: Record) -> dict[str, object]:
        """The text alone."""
        return {"text": record.arguments["text"]}


class Talkative(Subscription):
    """Fails with all that it was given."""

    actions = ("put_note",)

    def handle(self, records: Sequence[Record]) -> None:
        """Whatever it is."""
        raise RuntimeError(records[0].arguments["text"])


def stopped(world: World) -> str:
    with pytest.raises(ProjectionStopped) as caught:
        world.catch_up()
    return str(caught.value)


@pytest.mark.parametrize("make_world", PAIRS[:1], indirect=True)
@pytest.mark.parametrize("followed_by", [Wordy, Plain])
def test_a_stop_is_told_in_few_words(
    make_world: MakeWorld, followed_by: type[Projection], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(followed_by)

    def refuse(self: Any, index: str, writes: Sequence[Write]) -> list[Write]:
        raise DocumentsRefused([(write.key, write.version, LONG) for write in writes])

    if followed_by is Plain:
        monkeypatch.setattr(type(world.store), "write_many", refuse)
    position = world.put("a", LONG)
    message = stopped(world)
    assert "begin" in message
    assert message.endswith(" end")
    assert len(message) < MOST
    (status,) = world.operations.status()
    assert (status.state, status.detail["position"]) == ("stopped", position)
    assert len(json.dumps(status.detail)) < MOST
    monkeypatch.undo()
    skipped = world.operations.skip(followed_by.name)
    decided = world.bus.journal.get(skipped.action_id)
    assert decided is not None
    assert len(json.dumps(decided.arguments)) < MOST


def test_a_subscription_says_as_little(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "ATTEMPTS", 1)
    application = Application("notes", actions=["tests.projections.notes.actions"], subscriptions=[Talkative])
    with Bus(application, sqlite_url) as bus:
        database.upgrade(bus.engine)
        note = {"note": "a", "text": LONG, "number": 0, "shelves": []}
        bus.execute("put_note", note, actor="ana")
        with pytest.raises(ProjectionStopped, match="begin") as caught:
            Projector(bus, EmbeddedStore(bus.engine)).catch_up()
    assert len(json.dumps(caught.value.detail)) < MOST


def test_what_is_short_stays_as_it_is() -> None:
    assert shortened("x" * LONGEST_TOLD) == "x" * LONGEST_TOLD
    assert len(shortened("x" * (LONGEST_TOLD + 1))) < LONGEST_TOLD
