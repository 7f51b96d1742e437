"""Payments from start to end, with whoever asks killed anywhere and a provider that is often in trouble.

At the end its ledger is ours: one charge for each order that we have, and none besides. In the long form at every
statement, and the provider is killed too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, Retry, outside
from actionbus.core.queueing.worker import Worker
from tests.conftest import TORTURE, BusFactory, query
from tests.core.after_commit.dying import killed
from tests.core.after_commit.gateway import Gateway, Payments
from tests.helpers import let_time_pass
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, checkpoint, make_application, repo

STEP = 1 if TORTURE else 6
AGAIN = Retry(on=(OSError,), attempts=1000, backoff=0)
FAILS = 1000
"""Of what an order's number is a multiple if it fails."""
STYLES = ("after the commit", "at once, queued")


def after_the_commit(handler: Any) -> None:
    """An order, and a charge that waits for it to be there."""
    order = handler.args.n
    handler.mailer.charge(order, _cents(order))
    handler.session.add(Account(id=order, name=str(order), balance=_cents(order)))
    if order % FAILS == 0:
        raise ArithmeticError("an order that fails is not charged")


def at_once(handler: Any) -> None:
    """A charge, and the order with what was charged, in one transaction."""
    order = handler.args.n
    handler.mailer.charge(order, _cents(order), key=f"order-{order}")
    handler.session.add(Account(id=order, name=str(order), balance=_cents(order)))


def _cents(order: int) -> int:
    return 100 + order


def application(style: str) -> Application:
    """The shop with the provider as its `mailer`."""
    later = {"after_commit": True, "key": "key", "retry": AGAIN} if style == STYLES[0] else {}
    payments = outside(Payments, **later)  # type: ignore[arg-type]
    return make_application(dependencies={"repo": repo, "checkpoint": checkpoint, "mailer": payments})


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """In trouble at every third question."""
    found = Gateway(tmp_path / "ledger", 0.35, 11)
    monkeypatch.setattr(Payments, "port", found.port)
    yield found
    found.close()


@pytest.fixture
def bus(make_bus: BusFactory, style: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """The shop; its handler pays in this style."""
    monkeypatch.setattr(CallBack, "function", after_the_commit if style == STYLES[0] else at_once)
    monkeypatch.setattr(CallBack, "retry", AGAIN)
    return make_bus(application(style), leave_calls_to_workers=True)


def order(url: URL, style: str, number: int) -> None:
    """What a caller does: it orders, and pays at once, or queues it and works."""
    with Bus(application(style), url) as bus:
        if style == STYLES[0]:
            bus.execute("call_back", {"n": number})
        else:
            bus.runner().execute_async("call_back", {"n": number})
            Worker(bus).run_due()


def work(url: URL, style: str) -> None:
    """What a worker does."""
    with Bus(application(style), url) as bus:
        Worker(bus).run_due()


def settle(bus: Bus) -> None:
    """Until nothing waits."""
    while True:
        let_time_pass(bus, 7200)
        bus.recover(timedelta(0))
        Worker(bus).run_due()
        if not bus.runs.all():
            break
    assert list(bus.journal.unfinished()) == []


@pytest.mark.timeout(3600 if TORTURE else 300)
@pytest.mark.parametrize("style", STYLES)
def test_the_providers_ledger_is_ours_at_the_end(bus: Bus, style: str, gateway: Gateway) -> None:
    random.seed(7)
    number = deaths = 0
    for event in ("c_call", "c_return"):
        at, dying = 1 + STEP // 2 * (event == "c_return"), True
        while dying:
            number += 1
            dying = killed(partial(order, bus.engine.url, style, number), at, event)
            deaths += dying
            if at % 3 == 0:
                let_time_pass(bus, 7200)
                killed(partial(work, bus.engine.url, style), 1 + at // 2, event)
            if TORTURE and at % 10 == 0:
                gateway.kill()
                gateway.start()
            at += STEP
    if style == STYLES[0]:
        for multiple in (1, 2, 3):
            with pytest.raises(ArithmeticError):
                order(bus.engine.url, style, multiple * FAILS)
    settle(bus)
    assert deaths > (60 if TORTURE else 6)
    ours = query(bus.engine.url, "SELECT id, balance FROM accounts ORDER BY id")
    assert [tuple(row) for row in ours] == gateway.charges()
    assert len(ours) > deaths // 4
    assert all(cents == _cents(each) for each, cents in ours)
    assert list(bus.journal.read(action="perform_mailer", status="failed")) == []
