"""Tests written out of history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay import Replayer
from actionbus.replay.debug import Debugging
from actionbus.replay.export import Export
from tests.conftest import prepared
from tests.helpers import run_pytest
from tests.replay.conftest import NewSandbox, fill
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        yield bus


def test_an_exported_test_passes_and_fails_when_the_handler_changes(
    bus: Bus, new_sandbox: NewSandbox, tmp_path: Path
) -> None:
    fill(bus)
    notified = bus.execute("notify", {"to": "ann", "account": 1})
    ids = [
        next(bus.journal.read(action="transfer", kind="outcome")).action_id,
        notified.action_id,
        next(bus.journal.read(action="withdraw", status="failed")).action_id,
    ]
    for number, action_id in enumerate(ids):
        with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
            debugging = Debugging(replayer, action_id)
            rows = Export(debugging, "tests.adapters.shop_app:app").write(tmp_path / f"test_{number}.py")
            assert rows <= 2, "only the accounts concerned"
    written = (tmp_path / "test_0.py").read_text()
    assert "fixture.rows('accounts'" in written
    assert len(written.splitlines()) < 60
    assert "fixture.call('mailer.send', 'ann'" in (tmp_path / "test_1.py").read_text()
    assert "ArithmeticError" in (tmp_path / "test_2.py").read_text()
    assert run_pytest(tmp_path) == 0
    (tmp_path / "conftest.py").write_text(
        "from tests.shop.actions.withdraw import Withdraw\n"
        "old = Withdraw.execute\n"
        "def execute(self):\n    done = old(self)\n    self.repo.account(self.args.id).balance += 1\n    return done\n"
        "Withdraw.execute = execute\n"
    )
    assert run_pytest(tmp_path) == 1
