"""The local Elasticsearch starts from an archive of its classes, made once; where there can be none it starts as ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest

from actionbus.adapters.local_elasticsearch import archive
from actionbus.adapters.local_elasticsearch.install import NotInstallable
from actionbus.adapters.local_elasticsearch.server import LocalServer


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """Where a runtime would be."""
    (tmp_path / "java").mkdir()
    (tmp_path / "java" / "release").write_text("25")
    return tmp_path / "java" / "bin" / "java"


class Rehearsals:
    """Notes them; each writes an archive, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.number, self._fails = 0, fails

    def __call__(self, folder: Path, options: list[str]) -> None:
        self.number += 1
        sleep(0.05)  # as it takes some time
        if self._fails:
            raise NotInstallable("no")
        Path(options[0].partition("=")[2]).write_text("classes")


def test_an_archive_is_made_once_for_each_java(tmp_path: Path, java: Path) -> None:
    rehearse = Rehearsals()
    given = [archive.options(java, tmp_path, rehearse) for _ in range(2)]
    assert given[0] == given[1]
    assert rehearse.number == 1
    assert Path(given[0][0].removeprefix("-XX:AOTCache=")).read_text() == "classes"
    (java.parents[1] / "release").write_text("26")
    assert archive.options(java, tmp_path, rehearse) != given[0]
    assert rehearse.number == 2


def test_of_many_that_start_at_once_one_makes_it(tmp_path: Path, java: Path) -> None:
    """Else the first may start with one that the next has put another in place of."""
    rehearse, together = Rehearsals(), Barrier(4)

    def start(_: int) -> list[str]:
        together.wait()
        return archive.options(java, tmp_path, rehearse)

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(start, range(4)))
    assert rehearse.number == 1
    assert given == [given[0]] * 4


def test_what_cannot_be_made_is_tried_once_and_the_node_starts_without(tmp_path: Path, java: Path) -> None:
    rehearse = Rehearsals(fails=True)
    assert [archive.options(java, tmp_path, rehearse) for _ in range(2)] == [[], []]
    assert rehearse.number == 1
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["java"], "nothing is left lying about"


@pytest.mark.parametrize("lacking", ["the folder", "what Java says of itself"])
def test_where_nothing_can_be_kept_it_starts_without(tmp_path: Path, java: Path, lacking: str) -> None:
    home = tmp_path / "nowhere" if lacking == "the folder" else tmp_path
    if lacking != "the folder":
        (java.parents[1] / "release").unlink()
    assert archive.options(java, home, Rehearsals()) == []


def test_a_node_has_its_classes_from_the_archive(elasticsearch_server: LocalServer) -> None:
    """The JVM has mapped it, which it does with one that fits."""
    mapped = Path(f"/proc/{elasticsearch_server.pid()}/maps").read_text()
    assert ".aot" in mapped, Path(f"/proc/{elasticsearch_server.pid()}/cmdline").read_text()
