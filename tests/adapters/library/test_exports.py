"""Exports of several actors never collide, and a name that is no file's is refused by field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, InvalidArguments
from actionbus.adapters.library.app import library
from tests.adapters.library_tables import prepared_library


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    monkeypatch.setenv("ACTIONBUS_EXPORTS", str(folder))
    return folder


@pytest.fixture
def bus(url: URL, exports: Path) -> Iterator[Bus]:
    prepared_library(url)
    with Bus(library, url) as bus:
        yield bus


ACTORS = ["ana", "bob", "Ana", "a/../na", "..", ".", "a na", "a_na", "ä" * 200, "анна", "an%61"]


def test_exports_of_several_actors_do_not_collide(bus: Bus, exports: Path) -> None:
    where = {}
    for actor in ACTORS:
        kit = bus.execute("create_kit", {"name": f"of {actor}"[:100]}, actor=actor).result["kit_id"]
        bus.execute("add_asset", {"kit_id": kit, "name": "a", "content": actor[:50]}, actor=actor)
        outcome = bus.execute("export_kit", {"kit_id": kit, "file": "quarterly.json"}, actor=actor)
        where[actor] = Path(outcome.result["where"])
    assert len(set(where.values())) == len(ACTORS)
    for actor, path in where.items():
        assert actor[:50] in path.read_text()
        assert path.resolve().parent.parent == exports.resolve()


@pytest.mark.parametrize("name", ["a.json", "x" * 251, "x" * 255])
def test_an_export_overwrites_none_of_another_name(bus: Bus, exports: Path, name: str) -> None:
    """Not even one whose name is made of this one's; and any name that may be asked for can be had."""
    kit = bus.execute("create_kit", {"name": "A"}, actor="ana").result["kit_id"]
    others = [f"{name}{end}" for end in (".part", ".tmp")] if len(name) < 200 else []
    for each in (*others, name):
        bus.execute("export_kit", {"kit_id": kit, "file": each}, actor="ana")
    [folder] = exports.iterdir()
    assert {path.name for path in folder.iterdir()} == {name, *others}


def test_a_failed_export_leaves_nothing(bus: Bus, exports: Path) -> None:
    kit = bus.execute("create_kit", {"name": "A"}, actor="ana").result["kit_id"]
    bus.execute("export_kit", {"kit_id": kit, "file": "a.json"}, actor="ana")
    [folder] = exports.iterdir()
    (folder / "b.json").mkdir()
    with pytest.raises(IsADirectoryError):
        bus.execute("export_kit", {"kit_id": kit, "file": "b.json"}, actor="ana")
    assert {path.name for path in folder.iterdir()} == {"a.json", "b.json"}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\nb", "a b", "-x", ".hidden", "x" * 256, "é", "a.json\n"],
)
def test_a_name_that_is_no_files_is_refused_by_field(bus: Bus, exports: Path, name: str) -> None:
    kit = bus.execute("create_kit", {"name": "A"}, actor="ana").result["kit_id"]
    with pytest.raises(InvalidArguments) as refused:
        bus.execute("export_kit", {"kit_id": kit, "file": name}, actor="ana")
    assert list(refused.value.errors) == ["file"]
    assert not list(exports.iterdir())


def test_the_journal_names_the_handlers_line_that_failed(bus: Bus, exports: Path) -> None:
    """The bundled actions lie inside the framework's folder; what failed in them is theirs all the same."""
    kit = bus.execute("create_kit", {"name": "A"}, actor="ana").result["kit_id"]
    exports.rmdir()
    exports.write_text("in the way")
    with pytest.raises(NotADirectoryError):
        bus.execute("export_kit", {"kit_id": kit, "file": "a.json"}, actor="ana")
    [record] = bus.journal.read(action="export_kit", status="failed")
    assert record.error
    files = [Path(line.rpartition(":")[0]).name for line in record.error["traceback"]]
    assert files[0] == "export_kit.py", files
    assert "storage.py" in files, "what the dependency did is told too"
    assert not {"execution.py", "calls.py", "call.py", "dependencies.py"} & set(files)
