"""Histories to replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Application, Bus
from actionbus.replay import Step
from tests.replay.copies import Copy
from tests.servers import Server
from tests.shop.app import make_application

MakeCopy = Callable[[], Copy]
NewSandbox = Callable[[], URL]


@pytest.fixture
def make_copy(tmp_path: Path) -> MakeCopy:
    """Makes copies of the reference application."""
    exports = tmp_path / "exports"
    exports.mkdir()
    return lambda: Copy(tmp_path, exports=exports)


@pytest.fixture
def new_sandbox(url: URL, request: pytest.FixtureRequest) -> Iterator[NewSandbox]:
    """Makes empty databases of the same dialect."""
    if url.get_backend_name() == "sqlite":
        yield lambda: make_url("sqlite://")
        return
    server: Server = request.getfixturevalue("server")
    made: list[URL] = []

    def new() -> URL:
        made.append(server.database())
        return made[-1]

    yield new
    for each in made:
        server.drop(each)


@pytest.fixture
def sandbox_url(new_sandbox: NewSandbox) -> URL:
    """A sandbox of the same dialect."""
    return new_sandbox()


@pytest.fixture
def elsewhere(url: URL, server: Server, tmp_path: Path) -> Iterator[Bus]:
    """A journal with nothing in it, in another database of the same kind."""
    is_sqlite = url.get_backend_name() == "sqlite"
    other = make_url(f"sqlite:///{tmp_path / 'other.db'}") if is_sqlite else server.database()
    with Bus(make_application(), other) as bus:
        bus.journal.create()
        yield bus
    if not is_sqlite:
        server.drop(other)


def open_bus(application: Application, url: URL) -> Bus:
    """A bus on an empty database."""
    bus = Bus(application, url)
    bus.create()
    return bus


def attempt(bus: Bus, actor: str, action: str, **arguments: Any) -> Any:
    """Run an action; its result, or None if it did not succeed."""
    try:
        return bus.execute(action, arguments, actor=actor).result
    except Exception:
        return None


def assert_none_divergent(steps: list[Step]) -> None:
    """However many overlap: what they saw of each other is found."""
    told = [(step, step.overlapped, [str(each) for each in step.differences]) for step in steps if step.is_divergence]
    assert told == []


def fill(bus: Bus) -> None:
    """A history of the shop: three accounts, a withdrawal that fails, a transfer."""
    for number in (1, 2, 3):
        bus.execute("open_account", {"id": number, "name": f"n{number}"}, actor="ann")
        bus.execute("deposit", {"id": number, "amount": 10 * number}, actor="ann")
    attempt(bus, "ben", "withdraw", id=1, amount=1000)
    bus.execute("transfer", {"source": 2, "target": 1, "amount": 5}, actor="ben")
    bus.execute("withdraw", {"id": 3, "amount": 1}, actor="ben")


def live(bus: Bus) -> None:
    """A history in which every action succeeds, is rejected, is denied and fails."""
    kit = attempt(bus, "ana", "create_kit", name="Icons")["kit_id"]
    other = attempt(bus, "ana", "create_kit", name="Photos")["kit_id"]
    attempt(bus, "ana", "create_kit", name="Icons")
    attempt(bus, "ana", "share_kit", kit_id=kit, member="ben", role="editor")
    attempt(bus, "ana", "share_kit", kit_id=kit, member="cleo")
    tags = [f"tag{number}" for number in range(12)]
    assets = [
        attempt(bus, "ben", "add_asset", kit_id=kit, name=f"a{n}", tags=tags[: n + 2])["asset_id"] for n in range(4)
    ]
    attempt(bus, "ben", "add_asset", kit_id=kit, name="a0")
    attempt(bus, "dora", "add_asset", kit_id=kit, name="x")
    attempt(bus, "ben", "tag_asset", asset_id=assets[0], tags=["red", *tags])
    attempt(bus, "ben", "untag_asset", asset_id=assets[0], tags=["red", "tag1", "tag2", "tag3"])
    attempt(bus, "ben", "untag_asset", asset_id=assets[0], tags=["nothing"])
    attempt(bus, "ben", "rename_asset", asset_id=assets[1], name="renamed")
    attempt(bus, "ben", "rename_kit", kit_id=kit, name="Mine")
    attempt(bus, "ana", "rename_kit", kit_id=kit, name="Photos")
    attempt(bus, "ana", "rename_kit", kit_id=kit, name="Signs")
    attempt(bus, "ana", "move_asset", asset_id=assets[2], kit_id=other)
    attempt(bus, "ana", "publish_kit", kit_id=kit, file="kit.txt", tags=tags)
    attempt(bus, "ana", "publish_kit", kit_id=kit, file="../evil", tags=tags)
    attempt(bus, "ana", "export_kit", kit_id=kit, file="kit.json")
    attempt(bus, "cleo", "duplicate_kit", kit_id=kit, name="Copy")
    attempt(bus, "ana", "publish_kit", kit_id=kit, file="again.txt", tags=["b", "a"])
    attempt(bus, "ana", "unshare_kit", kit_id=kit, member="cleo")
    attempt(bus, "ana", "unshare_kit", kit_id=kit, member="cleo")
    attempt(bus, "ana", "remove_asset", asset_id=assets[3])
    attempt(bus, "ana", "remove_kit", kit_id=other)
    attempt(
        bus,
        "operator:tests",
        "add_token",
        holder="ana",
        label="laptop",
        digest="0" * 64,
        expires_at=datetime.now(UTC) + timedelta(days=90),
    )
    attempt(bus, "ana", "nonsense", a=1)
