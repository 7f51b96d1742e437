"""Whoever dies at whatever statement: the other side was asked if the action succeeded, and else never."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, outside
from actionbus.core.queueing.worker import Worker
from tests.conftest import TORTURE, BusFactory, query
from tests.core.after_commit.dying import killed
from tests.helpers import let_time_pass
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, checkpoint, make_application, repo


class FileTill:
    """Keeps its ledger in a file, which outlives whoever asks."""

    ledger = Path()

    def charge(self, account: int, *, key: str) -> None:
        """Note that it was asked."""
        descriptor = os.open(self.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{account} {key}\n".encode())
        os.close(descriptor)

    @classmethod
    def asked(cls) -> list[tuple[int, str]]:
        """Accounts and keys, as often as they came."""
        lines = cls.ledger.read_text().splitlines() if cls.ledger.exists() else []
        return [(int(account), key) for account, key in map(str.split, lines)]


def application() -> Application:
    """The shop with this till as its `mailer`."""
    till = outside(FileTill, after_commit=True, key="key")
    return make_application(dependencies={"repo": repo, "checkpoint": checkpoint, "mailer": till})


def charge(handler: Any) -> None:
    """Two calls, a row between them."""
    handler.mailer.charge(handler.args.n)
    handler.session.add(Account(id=handler.args.n, name=str(handler.args.n)))
    handler.mailer.charge(handler.args.n)


@pytest.fixture
def bus(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bus:
    """Its shop."""
    monkeypatch.setattr(CallBack, "function", charge)
    monkeypatch.setattr(FileTill, "ledger", tmp_path / "ledger")
    return make_bus(application(), leave_calls_to_workers=True)


def act(url: URL, account: int) -> None:
    """Run the action, and make its calls."""
    Bus(application(), url).execute("call_back", {"n": account})


def work(url: URL, _account: int) -> None:
    """Do what waits."""
    Worker(Bus(application(), url)).run_due()


def settle(bus: Bus) -> None:
    """What whoever comes next does."""
    let_time_pass(bus, 7200)
    bus.recover(timedelta(0))
    Worker(bus).run_due()
    assert bus.runs.all() == []
    assert list(bus.journal.unfinished()) == []


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_killed_at_every_statement_what_succeeded_was_asked_and_nothing_else(bus: Bus, who: str) -> None:
    """In the long form just before and just after each one; in the short one at every fifth, in turn."""
    deaths = 0
    for event in ("c_call", "c_return"):
        number, dying = (1 if event == "c_call" else 3), True
        while dying:
            account = 2 * number + (event == "c_call")
            if who == "worker":
                bus.execute("call_back", {"n": account})
            dying = killed(partial(act if who == "caller" else work, bus.engine.url, account), number, event)
            deaths += dying
            settle(bus)
            number += 1 if TORTURE else 5
    assert deaths > (40 if TORTURE else 6), "there were statements to die at"
    asked = FileTill.asked()
    accounts = {account for (account,) in query(bus.engine.url, "SELECT id FROM accounts")}
    done = {record.action_id for record in bus.journal.read(action="call_back", status="succeeded")}
    assert {account for account, _ in asked} == accounts
    assert len(accounts) == len(done)
    assert len(set(asked)) == 2 * len(done), "each call has a key of its own, which is the same when it is made again"
    performed = list(bus.journal.read(action="perform_mailer", kind="outcome"))
    assert {record.status for record in performed} == {"succeeded"}
    assert {record.arguments["key"] for record in performed} == {key for _, key in asked}
    assert len(performed) == 2 * len(done)
    assert len(list(bus.journal.read(action="call_back", status="interrupted"))) > 0 or who == "worker"
    if TORTURE:
        assert len(asked) > 2 * len(done), "some died between a call and its outcome"
