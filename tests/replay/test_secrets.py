"""What was never recorded is no divergence, nor a place for one to hide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.replay import Replayer, Step
from tests.replay.conftest import attempt, open_bus
from tests.replay.secretive.sign_up import SignUp
from tests.replay.secretive_models import Base


def secretive() -> Application:
    return Application("secretive", actions=["tests.replay.secretive"], models=Base.metadata)


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    with open_bus(secretive(), url) as bus:
        yield bus


def steps(bus: Bus, sandbox: Any) -> list[Step]:
    with Replayer(bus.journal, secretive(), sandbox) as replayer:
        return list(replayer.verify())


def test_what_is_made_of_a_secret_is_not_compared(bus: Bus, sandbox_url: Any) -> None:
    for number in range(3):
        bus.execute("sign_up", {"name": f"n{number}", "password": "correct horse"})
    assert [(step.verdict, step.differences) for step in steps(bus, sandbox_url)] == [("same", [])] * 3


def test_a_secret_that_stands_in_another_argument_is_no_divergence(bus: Bus, sandbox_url: Any) -> None:
    for name in ("correct horse", "the correct horse is mine"):
        bus.execute("sign_up", {"name": name, "password": "correct horse"})
    assert [step.verdict for step in steps(bus, sandbox_url)] == ["same"] * 2


def test_a_bug_beside_a_secret_is_found(bus: Bus, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.execute("sign_up", {"name": "ann", "password": "correct horse"})
    old = SignUp.execute
    monkeypatch.setattr(SignUp, "execute", lambda self: {**old(self), "length": 1})
    (step,) = steps(bus, sandbox_url)
    assert step.verdict == "divergent"
    assert [str(each) for each in step.differences] == ["result.length: recorded 64, now 1"]


def test_a_stand_in_that_is_refused_is_no_divergence(bus: Bus, sandbox_url: Any) -> None:
    bus.execute("sign_up", {"name": "ann", "password": "correct horse", "pin": "1234"})
    bus.execute("sign_up", {"name": "ben", "password": "correct horse"})
    first, second = steps(bus, sandbox_url)
    assert first.verdict == "unplayable"
    assert first.why is not None
    assert first.why.startswith("with a stand-in for a secret argument it is rejected")
    assert second.verdict == "same", "its key was imposed, whatever became of the first"


def test_what_a_secret_decides_is_no_divergence(bus: Bus, sandbox_url: Any) -> None:
    """Right, wrong and too short: nobody knows which it was, so nothing is said of it."""
    bus.execute("sign_in", {"password": "correct horse"})
    for password in ("wrong password", "short"):
        attempt(bus, "ann", "sign_in", password=password)
    with Replayer(bus.journal, secretive(), sandbox_url) as replayer:
        verdicts = [step.verdict for step in replayer.verify(statuses=("succeeded", "rejected", "denied"))]
    assert verdicts == ["unplayable", "same", "unplayable"]
