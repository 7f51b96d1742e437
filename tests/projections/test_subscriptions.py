"""Subscriptions: at least once and in order, whatever is killed; stopped before poison; moved and paused by operators."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Application, Bus, ConfigurationError, InvalidArguments
from actionbus.adapters import database
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import ProjectionStopped, Projector, Subscription, Subscriptions, UnknownProjection
from actionbus.projections import delivery as delivering
from actionbus.projections.ledger import Checkpoint, Ledger
from tests.conftest import TORTURE
from tests.projections.following import (
    Notices,
    application,
    assert_at_least_once_and_in_order,
    noticed,
    start,
)
from tests.projections.running import projecting
from tests.projections.waiting import PATIENCE_S, end_leases, eventually


class Followed:
    """The notes, what follows them, and what it was given."""

    def __init__(self, url: URL, path: Path) -> None:
        self.url, self.path = url.render_as_string(hide_password=False), path
        self.bus = Bus(application(path), url)
        database.upgrade(self.bus.engine)
        self.operations = Subscriptions(self.bus)

    def put(self, *texts: str) -> None:
        """Notes."""
        for each in texts:
            self.bus.execute("put_note", {"note": "n", "text": each})

    def expected(self) -> list[int]:
        """The positions of what is wanted, in plain SQL."""
        wanted = (
            "SELECT position FROM journal WHERE kind = 'outcome' AND action IN ('put_note', 'drop_note') ORDER BY 1"
        )
        with self.bus.engine.connect() as connection:
            return list(connection.execute(text(wanted)).scalars())

    def has_all(self) -> bool:
        """Whether everything was handed over by now."""
        return {each for batch in noticed(self.path) for each in batch} >= set(self.expected())

    def running(self) -> AbstractContextManager[threading.Event]:
        """A projector of this process."""
        return projecting(self.bus, EmbeddedStore(self.bus.engine))


@pytest.fixture
def followed(url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    """On each database in turn."""
    monkeypatch.setattr(Notices, "kill_at", "")
    made = Followed(url, tmp_path / "noticed")
    yield made
    made.bus.close()


STEPS = ["before 1", "after 1", "before 3", "after 3", "advance before", "advance after"]


def test_killed_at_every_step_it_goes_on_without_a_gap(followed: Followed) -> None:
    followed.put(*map(str, range(12)))
    for step in STEPS:
        process = start(followed.url, followed.path, step)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL, step
        end_leases(followed.bus.engine)
        followed.put("more", "and more")
    with followed.running():
        eventually(followed.has_all)
    batches = noticed(followed.path)
    assert_at_least_once_and_in_order(batches, followed.expected())
    assert len([each for batch in batches for each in batch]) > len(followed.expected()), "what was cut off came again"


@pytest.mark.parametrize("seed", range(8 if TORTURE else 1))
def test_killed_at_any_moment_while_others_write(followed: Followed, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12 if TORTURE else 3):
        process = start(followed.url, followed.path)
        before = len(noticed(followed.path))
        followed.put("some", "more")
        eventually(lambda before=before: len(noticed(followed.path)) > before)  # type: ignore[misc]
        followed.put(*map(str, range(chance.randrange(9))))
        process.kill()
        process.wait()
        end_leases(followed.bus.engine)
    with followed.running():
        eventually(followed.has_all)
    assert_at_least_once_and_in_order(noticed(followed.path), followed.expected())


def test_the_check_finds_what_is_wrong() -> None:
    for wrong in ([[1, 2], [4]], [[1, 2], [3]], [[2, 3], [4]], [[1, 2], [4, 3]], [[1, 3]], [[2, 1], [3, 4]]):
        with pytest.raises(AssertionError):
            assert_at_least_once_and_in_order(wrong, [1, 2, 3, 4])
    assert_at_least_once_and_in_order([[1, 2], [1], [2, 3, 4], [3, 4]], [1, 2, 3, 4])


@pytest.mark.early
def test_one_feeds_and_the_other_takes_over(followed: Followed) -> None:
    first = start(followed.url, followed.path)
    try:
        followed.put("a")
        eventually(followed.has_all)
        with followed.running():
            followed.put("b", "c")
            eventually(followed.has_all)
            assert len([each for batch in noticed(followed.path) for each in batch]) == len(followed.expected())
            first.kill()
            first.wait()
            followed.put("d")
            eventually(followed.has_all)
    finally:
        first.kill()
        first.wait()
    assert_at_least_once_and_in_order(noticed(followed.path), followed.expected())


def test_poison_stops_it_just_before_and_an_operator_goes_on(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "ATTEMPTS", 1)
    followed.put("a", "b", "poison", "c")
    bad = followed.expected()[2]
    with pytest.raises(ProjectionStopped, match=f"stopped before record {bad} .put_note.: RuntimeError"):
        Projector(followed.bus, EmbeddedStore(followed.bus.engine)).catch_up()
    assert [each for batch in noticed(followed.path) for each in batch] == followed.expected()[:2]
    (status,) = followed.operations.status()
    assert (status.name, status.state, status.healthy) == ("notices", "stopped", False)
    assert status.position < bad
    assert "cannot be noticed" in status.detail["traceback"]
    with followed.running():
        eventually(lambda: followed.operations.retry("notices"))  # who has just begun tries it again by himself, first
        eventually(lambda: followed.operations.status()[0].state == "stopped")
        with pytest.raises(ValueError, match="not stopped by record 999"):
            followed.operations.skip("notices", 999)
        outcome = followed.operations.skip("notices", actor="ana")
        eventually(lambda: followed.expected()[-1] in noticed(followed.path)[-1])
    assert outcome.result["to"] == bad
    decision = followed.bus.journal.get(outcome.action_id)
    assert decision is not None
    assert (decision.actor, decision.action) == ("ana", "move_subscription")
    given = [each for batch in noticed(followed.path) for each in batch]
    assert given == [each for each in followed.expected() if each != bad]
    with pytest.raises(ValueError, match="not stopped by a record"):
        followed.operations.skip("notices")


def test_a_reset_hands_over_again_under_whoever_works(followed: Followed) -> None:
    followed.put("a", "b")
    with followed.running():
        eventually(followed.has_all)
        followed.operations.reset("notices", 0, reason="the mails were lost")
        eventually(lambda: len([each for batch in noticed(followed.path) for each in batch]) == 4)
    assert followed.operations.status()[0].lag_positions < 3, "but for the decision itself"


def test_a_reset_to_where_a_batch_began_holds_while_it_is_handed_over(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position is what it was; that somebody set it must be seen all the same."""
    advance = Ledger.advance

    def reset_before(ledger: Ledger, row: Checkpoint, holder: str, end: int) -> bool:
        monkeypatch.setattr(Ledger, "advance", advance)
        followed.operations.reset("notices", row.position)
        return advance(ledger, row, holder, end)

    monkeypatch.setattr(Ledger, "advance", reset_before)
    followed.put("a", "b")
    with followed.running():
        eventually(lambda: len([each for batch in noticed(followed.path) for each in batch]) == 4)


def test_none_is_moved_beyond_what_there_is(followed: Followed) -> None:
    """What is recorded up to there would never be handed over, and nobody would know."""
    followed.put("a")
    Projector(followed.bus, EmbeddedStore(followed.bus.engine)).catch_up()
    end = followed.bus.journal.last()
    with pytest.raises(InvalidArguments, match="is beyond the journal's end"):
        followed.operations.reset("notices", end + 1000)
    followed.operations.reset("notices", end)
    followed.put("b")
    Projector(followed.bus, EmbeddedStore(followed.bus.engine)).catch_up()
    assert followed.has_all()


def test_before_it_is_followed_for_the_first_time_it_can_be_said_where_it_begins(followed: Followed) -> None:
    """So that one that is new, or was renamed, does not do again what was done long ago."""
    followed.put("a", "b")
    followed.operations.reset("notices", followed.expected()[0], reason="it was another's until now")
    with followed.running():
        eventually(lambda: noticed(followed.path))
        followed.put("c")
        eventually(lambda: len([each for batch in noticed(followed.path) for each in batch]) == 2)
    assert [each for batch in noticed(followed.path) for each in batch] == followed.expected()[1:]


def test_a_pause_holds_through_restarts_and_says_whose_it_is(followed: Followed) -> None:
    followed.put("a")
    with followed.running():
        eventually(followed.has_all)
    followed.operations.pause("notices", actor="ana", reason="their server is down")
    followed.put("b")
    with followed.running():
        eventually(lambda: followed.operations.status()[0].alive)
        (status,) = followed.operations.status()
        assert status.state == "paused"
        assert "paused by ana at" in status.detail["message"]
        assert "their server is down" in status.detail["message"]
        assert not status.healthy
        assert not followed.has_all()
        with pytest.raises(ProjectionStopped, match=r"paused by ana.*actionbus subscriptions resume notices"):
            Projector(followed.bus, EmbeddedStore(followed.bus.engine)).catch_up()
        followed.operations.resume("notices", actor="ben")
        eventually(followed.has_all)
    with pytest.raises(InvalidArguments, match="is not paused"):
        followed.operations.resume("notices")


def test_what_is_unknown_is_named(followed: Followed) -> None:
    ways: list[Callable[[str], object]] = [
        followed.operations.pause,
        followed.operations.resume,
        followed.operations.retry,
        followed.operations.skip,
        lambda name: followed.operations.reset(name, 1),
    ]
    for way in ways:
        with pytest.raises(UnknownProjection, match="there are: notices"):
            way("nobody")
    with pytest.raises(UnknownProjection, match="was never followed"):
        followed.operations.skip("notices", 1)


def test_a_declaration_that_is_wrong_is_refused(sqlite_url: URL) -> None:
    class Idle(Subscription):
        name = "Idle!"
        actions = ("nothing",)
        batch = 0

    class Twice(Notices):
        name = "notices"

    declared = Application("notes", actions=["tests.projections.notes.actions"], subscriptions=[Idle, Notices, Twice])
    with pytest.raises(ConfigurationError) as told:
        Bus(declared, sqlite_url)
    for why in ("the name 'Idle!'", "no handle(records)", "the action 'nothing'", "`batch`", "are called 'notices'"):
        assert why in str(told.value)
