"""The reference application's rules, and its real input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import Bus, InvalidArguments, PermissionDenied
from actionbus.adapters.cli.demo_import import Import
from actionbus.adapters.library.app import library
from actionbus.adapters.library.emoji_input import steps
from actionbus.adapters.library.models import AssetRow, Base, KitRow, TagRow
from actionbus.adapters.wiring import store_for
from actionbus.projections import Projector
from actionbus.search import EsRepo

JSON = dict[str, Any]


@pytest.fixture
def bus(url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setenv("ACTIONBUS_EXPORTS", str(tmp_path))
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    with Bus(library, url) as bus:
        bus.journal.create()
        yield bus


@pytest.fixture
def kit(bus: Bus) -> str:
    """Ana's kit; Ben may edit it, Cleo may see it."""
    kit_id: str = do(bus, "ana", "create_kit", name="Kit")["kit_id"]
    do(bus, "ana", "share_kit", kit_id=kit_id, member="ben", role="editor")
    do(bus, "ana", "share_kit", kit_id=kit_id, member="cleo")
    return kit_id


def do(bus: Bus, actor: str | None, action: str, **arguments: Any) -> Any:
    return bus.execute(action, arguments, actor=actor).result


def rejected(bus: Bus, actor: str, action: str, **arguments: Any) -> JSON:
    with pytest.raises(InvalidArguments) as caught:
        bus.execute(action, arguments, actor=actor)
    return caught.value.errors


def denied(bus: Bus, actor: str | None, action: str, **arguments: Any) -> None:
    with pytest.raises(PermissionDenied):
        bus.execute(action, arguments, actor=actor)


def test_roles(bus: Bus, kit: str) -> None:
    asset = do(bus, "ben", "add_asset", kit_id=kit, name="A", tags=["x", "x", "y"])["asset_id"]
    for actor in ("cleo", "dora", None):
        denied(bus, actor, "add_asset", kit_id=kit, name="B")
        denied(bus, actor, "remove_asset", asset_id=asset)
        denied(bus, actor, "rename_kit", kit_id=kit, name="C")
    denied(bus, "ben", "rename_kit", kit_id=kit, name="C")
    denied(bus, "ben", "share_kit", kit_id=kit, member="dora")
    denied(bus, None, "create_kit", name="nobody's")
    do(bus, "cleo", "export_kit", kit_id=kit, file="a.json")
    denied(bus, "dora", "export_kit", kit_id=kit, file="a.json")
    do(bus, "ana", "unshare_kit", kit_id=kit, member="ben")
    denied(bus, "ben", "add_asset", kit_id=kit, name="B")
    assert rejected(bus, "ana", "unshare_kit", kit_id=kit, member="ben") == {"member": ["has no role in this kit"]}
    assert "owns" in str(rejected(bus, "ana", "share_kit", kit_id=kit, member="ana"))


def test_names_are_unique(bus: Bus, kit: str) -> None:
    assert "already" in str(rejected(bus, "ana", "create_kit", name="Kit"))
    do(bus, "ben", "create_kit", name="Kit")
    other = do(bus, "ana", "create_kit", name="Other")["kit_id"]
    assert "already" in str(rejected(bus, "ana", "rename_kit", kit_id=other, name="Kit"))
    one = do(bus, "ana", "add_asset", kit_id=kit, name="A")["asset_id"]
    assert "already" in str(rejected(bus, "ana", "add_asset", kit_id=kit, name="A"))
    two = do(bus, "ana", "add_asset", kit_id=other, name="A")["asset_id"]
    assert "already" in str(rejected(bus, "ana", "move_asset", asset_id=two, kit_id=kit))
    do(bus, "ana", "rename_asset", asset_id=one, name="B")
    do(bus, "ana", "move_asset", asset_id=two, kit_id=kit)
    assert "already" in str(rejected(bus, "ana", "rename_asset", asset_id=two, name="B"))


def test_moving_takes_both_kits(bus: Bus, kit: str) -> None:
    bens = do(bus, "ben", "create_kit", name="Ben's")["kit_id"]
    cleos = do(bus, "cleo", "create_kit", name="Cleo's")["kit_id"]
    asset = do(bus, "ben", "add_asset", kit_id=kit, name="A")["asset_id"]
    denied(bus, "ben", "move_asset", asset_id=asset, kit_id=cleos)
    denied(bus, "cleo", "move_asset", asset_id=asset, kit_id=cleos)
    do(bus, "ben", "move_asset", asset_id=asset, kit_id=bens)
    assert "already" in str(rejected(bus, "ben", "move_asset", asset_id=asset, kit_id=bens))
    denied(bus, "ana", "tag_asset", asset_id=asset, tags=["x"])


def test_what_is_gone_is_gone(bus: Bus, kit: str) -> None:
    asset = do(bus, "ana", "add_asset", kit_id=kit, name="A", tags=["x"])["asset_id"]
    assert "still holds 1" in str(rejected(bus, "ana", "remove_kit", kit_id=kit))
    do(bus, "ana", "remove_asset", asset_id=asset)
    for action, more in (("remove_asset", {}), ("tag_asset", {"tags": ["x"]}), ("rename_asset", {"name": "x"})):
        assert "asset_id" in rejected(bus, "ana", action, asset_id=asset, **more)
    do(bus, "ana", "remove_kit", kit_id=kit)
    assert "kit_id" in rejected(bus, "ana", "add_asset", kit_id=kit, name="A")
    assert "kit_id" in rejected(bus, "ana", "remove_kit", kit_id=kit)


def test_tags(bus: Bus, kit: str) -> None:
    asset = do(bus, "ana", "add_asset", kit_id=kit, name="A", tags=["x"])["asset_id"]
    assert do(bus, "ana", "tag_asset", asset_id=asset, tags=["x", "y", "y"])["added"] == ["y"]
    assert do(bus, "ana", "untag_asset", asset_id=asset, tags=["y", "z"])["removed"] == ["y"]
    assert "none of these" in str(rejected(bus, "ana", "untag_asset", asset_id=asset, tags=["y"]))
    assert "characters" in str(rejected(bus, "ana", "tag_asset", asset_id=asset, tags=["", "x" * 61]))


def test_an_export_is_an_outside_call_on_record(bus: Bus, kit: str, tmp_path: Path) -> None:
    do(bus, "ana", "add_asset", kit_id=kit, name="A", content="😀", tags=["x"])
    outcome = bus.execute("export_kit", {"kit_id": kit, "file": "kit.json"}, actor="cleo")
    assert "😀" in Path(outcome.result["where"]).read_text()
    record = bus.journal.get(outcome.action_id)
    assert record
    assert record.calls
    assert record.calls[0]["call"] == "storage.put"
    (Path(outcome.result["where"]).parent / "folder.json").mkdir()
    with pytest.raises(IsADirectoryError):
        bus.execute("export_kit", {"kit_id": kit, "file": "folder.json"}, actor="cleo")
    assert bus.journal.tail(1)[0].status == "failed"


@pytest.mark.parametrize("where", ["embedded", "elasticsearch"])
def test_what_a_search_finds_is_tagged_and_the_search_is_an_outside_call_on_record(
    bus: Bus, kit: str, where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        where = request.getfixturevalue("elasticsearch_url")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", where)
    store = store_for(bus.engine)
    own = do(bus, "ben", "create_kit", name="Ben's")["kit_id"]
    ids = [
        do(bus, "ana", "add_asset", kit_id=kit, name=name, names={"de": f"{name} Herz"})["asset_id"] for name in "abc"
    ]
    do(bus, "ben", "add_asset", kit_id=own, name="d", names={"de": "Herz"})
    Projector(bus, store).catch_up()
    do(bus, "ana", "remove_asset", asset_id=ids[2])
    outcome = bus.execute("tag_found", {"words": "herz", "tags": ["love"]}, actor="ana")
    assert sorted(outcome.result["asset_ids"]) == sorted(ids[:2]), "not Ben's own, nor the one that is gone"
    record = bus.journal.get(outcome.action_id)
    assert record is not None
    assert record.calls is not None
    assert [call["call"] for call in record.calls] == ["es_repo.search"]
    assert "words" in rejected(bus, "cleo", "tag_found", words="herz", tags=["x"])
    Projector(bus, store).catch_up()
    repo = EsRepo(store)
    assert repo.search("assets", "herz", filters={"tags": "love"}).total == 2
    assert repo.get("activity", "ana")["by_action"]["tag_found"] == {"succeeded": 1}  # type: ignore[index]
    assert repo.get("kits", kit)["members"] == {"ben": "editor", "cleo": "viewer"}  # type: ignore[index]
    expected = {str(row.id) for row in _rows(bus)}
    assert {key for key, _ in store.scan(str(store.aliased("assets")))} == expected
    store.close()


def _rows(bus: Bus) -> list[AssetRow]:
    with Session(bus.engine) as session:
        return list(session.scalars(select(AssetRow)))


def test_the_first_steps_of_the_real_input(bus: Bus) -> None:
    assert len(steps()) > 5_000
    importing = Import(bus)
    importing.run("importing", steps(400))
    assert sum(importing.counts.values()) == 406
    assert set(importing.counts) == {"succeeded", "rejected", "denied", "failed"}
    with bus.engine.connect() as connection:
        added = len(list(bus.journal.read(action="add_asset", status="succeeded")))
        assert connection.scalar(select(func.count()).select_from(AssetRow)) == added > 100
        kits = len(list(bus.journal.read(action="create_kit", status="succeeded")))
        assert connection.scalar(select(func.count()).select_from(KitRow)) == kits > 3
        assert (connection.scalar(select(func.count()).select_from(TagRow)) or 0) > 0
        names = connection.scalars(select(AssetRow.names)).all()
    assert any("ja" in each and "de" in each for each in names)
