"""Arguments of older handler versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Arg, Bus
from actionbus.replay import NeedsUpcast, Replayer, ReplayError
from tests.conftest import prepared
from tests.replay.conftest import NewSandbox, fill
from tests.shop.actions.deposit import Deposit
from tests.shop.actions.withdraw import Withdraw
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        yield bus


def test_older_versions_need_an_upcast(bus: Bus, sandbox_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bus)
    monkeypatch.setattr(Withdraw, "version", Withdraw.version + 1)
    monkeypatch.setattr(Withdraw, "arguments", {"account": Arg(int, required=True), "amount": Arg(int, required=True)})
    old = Withdraw.execute

    def execute(self: Withdraw) -> Any:
        self.set_args({"id": self.args.account, "amount": self.args.amount})
        return old(self)

    monkeypatch.setattr(Withdraw, "execute", execute)
    monkeypatch.setattr(Withdraw, "validate", lambda self: None)
    application = make_application()
    with Replayer(bus.journal, application, sandbox_url) as replayer:
        with pytest.raises(NeedsUpcast, match=r"withdraw: the journal has version 1 .* has no upcast"):
            next(replayer.verify())

        def upcast(cls: type, arguments: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"account": arguments["id"], "amount": arguments["amount"]}

        monkeypatch.setattr(Withdraw, "upcast", classmethod(upcast))
        steps = [step for step in replayer.verify() if step.record.action in ("withdraw", "open_account")]
        assert [(step.verdict, step.differences) for step in steps] == [("same", [])] * 4


def test_a_nested_action_of_an_older_version(
    bus: Bus, new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bus)
    monkeypatch.setattr(Deposit, "version", Deposit.version + 1)
    monkeypatch.setattr(Deposit, "arguments", {**Deposit.arguments, "currency": Arg(str, default="EUR")})
    application = make_application()
    failing = classmethod(lambda cls, arguments, version: arguments["nothing"])
    monkeypatch.setattr(Deposit, "upcast", failing)
    with (
        Replayer(bus.journal, application, new_sandbox()) as replayer,
        pytest.raises(ReplayError, match=r"upcast\(\) of version 2 raised KeyError"),
    ):
        list(replayer.verify())
    monkeypatch.setattr(Deposit, "upcast", classmethod(lambda cls, arguments, version: dict(arguments)))
    with Replayer(bus.journal, application, new_sandbox()) as replayer:
        assert {step.verdict for step in replayer.verify()} == {"same"}, "in the outer and the nested ones"
