"""In a replay postponed calls are compared and never made; so are the actions that made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Arg, Bus
from actionbus.replay import Replayer
from actionbus.replay.fork import Forking
from tests.conftest import prepared
from tests.core.after_commit.till import Till, application
from tests.replay.conftest import NewSandbox
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account


def charge(handler: Any) -> Any:
    call = handler.mailer.charge(handler.args.n)
    handler.session.add(Account(id=handler.args.n, name=call.key))
    return call.action_id


@pytest.fixture(autouse=True)
def till(monkeypatch: pytest.MonkeyPatch) -> type[Till]:
    """Empty."""
    monkeypatch.setattr(CallBack, "function", charge)
    Till.empty()
    return Till


@pytest.fixture
def history(url: URL) -> Iterator[Bus]:
    """Two payments, of which one is refused."""
    prepared(url, recorded=True)
    with Bus(application(), url) as bus:
        bus.execute("call_back", {"n": 3})
        bus.execute("call_back", {"n": 4})
        yield bus


def test_what_is_unchanged_verifies_and_asks_nobody(history: Bus, sandbox_url: URL, till: type[Till]) -> None:
    made = list(till.asked)
    assert len(made) == 2
    with Replayer(history.journal, application(), sandbox_url) as replayer:
        steps = list(replayer.verify())
    assert [(step.record.action, step.verdict) for step in steps] == [
        (name, "same") for name in ("call_back", "perform_mailer") * 2
    ]
    assert till.asked == made


def test_another_call_is_a_divergence(history: Bus, sandbox_url: URL, till: type[Till]) -> None:
    made = list(till.asked)
    CallBack.function = lambda handler: charge(handler) if handler.args.n == 4 else _more(handler)
    with Replayer(history.journal, application(), sandbox_url) as replayer:
        told = {step.record.action_id: [each.field for each in step.differences] for step in replayer.verify()}
    assert [paths for paths in told.values() if paths] == [["queued[0].arguments.positional[0]"]]
    assert till.asked == made


def _more(handler: Any) -> Any:
    call = handler.mailer.charge(handler.args.n + 1)
    handler.session.add(Account(id=handler.args.n, name=call.key))
    return call.action_id


def test_a_fork_makes_no_call(history: Bus, new_sandbox: NewSandbox, till: type[Till]) -> None:
    made = list(till.asked)
    first = next(history.journal.read(action="call_back", kind="outcome"))
    with Replayer(history.journal, application(), new_sandbox()) as replayer:
        fork = Forking(replayer, edit={first.action_id: {"n": 9}}).run()
    assert {change.key for change in fork.rows if change.table == "accounts"} == {(3,), (9,)}
    assert till.asked == made


def test_what_was_refused_for_what_is_personal_is_refused_again(
    url: URL,
    sandbox_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CallBack, "arguments", {"name": Arg(str, required=True, personal=True)})
    CallBack.function = lambda handler: handler.mailer.charge(1, note=handler.args.name)
    prepared(url, recorded=True)
    with Bus(application(), url) as bus:
        with pytest.raises(Exception, match="personal"):
            bus.execute("call_back", {"name": "Ada Lovelace"})
        with Replayer(bus.journal, application(), sandbox_url) as replayer:
            assert [step.verdict for step in replayer.verify(statuses=["failed"])] == ["same"]
