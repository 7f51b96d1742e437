"""Who is erased after an archive was made: he is in its images still, which is told; attached and archived anew, he is gone."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus.core.history.archiving import erasures_made
from actionbus.replay.archives.archive import archive
from actionbus.replay.archives.archive_subjects import SubjectSearch
from actionbus.replay.archives.attach import attach
from actionbus.replay.archives.folders import JOURNAL
from actionbus.replay.errors import ReplayError
from tests.core.privacy.clinic import Clinic, canonical, without
from tests.helpers import Run, documents
from tests.replay.archives.history import archived, nobody


@pytest.fixture
def clinic(url: URL) -> Iterator[Clinic]:
    """Of three patients with visits; one of these names nobody for a while."""
    clinic = Clinic(url)
    for number, name in enumerate(("Ada Lovelace", "Bob Smith", "Cyd Charisse"), 1):
        clinic.run(
            f"INSERT INTO patients (id, name, born, ward) VALUES ({number}, '{name}', 190{number}, 'A')",
            f"INSERT INTO visits VALUES ({number}, {number}, '{name} has a cold', 5)",
            f"INSERT INTO scraps VALUES ({number}, 'of {name}')",
        )
    clinic.run("UPDATE visits SET patient_id = NULL WHERE id = 1", "UPDATE patients SET ward = 'B'")
    yield clinic
    clinic.bus.close()


def _text(folder: Path) -> str:
    return gzip.decompress((folder / JOURNAL).read_bytes()).decode()


def test_an_archive_that_holds_him_is_named_until_it_is_made_anew(clinic: Clinic, tmp_path: Path) -> None:
    middle = clinic.bus.journal.settled()
    clinic.run(
        "DELETE FROM visits WHERE id = 1",
        "DELETE FROM scraps WHERE patient_id = 1",
        "DELETE FROM patients WHERE id = 1",
    )
    end = clinic.bus.journal.settled()
    before = {position: clinic.state(position) for position in (middle // 2, middle, end)}
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    archived(clinic.bus, middle, one)
    archived(clinic.bus, end, two)
    clinic.run("INSERT INTO patients (id, name) VALUES (4, 'Dee Dee')")
    assert clinic.bus.erase(4).archives == [str(one), str(two)]
    found = SubjectSearch(clinic.bus, 4)
    assert [found.look(each) for each in (one, two)] == [(0, 1), (0, 2)], "the visit named nobody"
    erasure = clinic.bus.erase(1)
    assert (erasure.archives, erasure.outcome.result["archives"]) == ([str(one), str(two)],) * 2
    found = SubjectSearch(clinic.bus, 1)
    assert [found.look(each).named > 0 for each in (one, two)] == [True, True]
    assert "Lovelace" in _text(one)
    assert "Lovelace" in _text(two)
    for folder in (two, one):
        assert attach(clinic.bus, folder, operator=True, watch=nobody).result["erasures_since"] == 2
    again = clinic.bus.erase(1)
    assert again.images
    assert again.archives == [str(one), str(two)], "folders of what is attached are there still"
    archived(clinic.bus, end, three)
    assert found.look(three) == (0, 0)
    assert "Lovelace" not in _text(three)
    assert "Smith" in _text(three)
    for folder in (one, two):
        shutil.rmtree(folder)
    with pytest.raises(ReplayError, match=str(one)):
        found.look(one)
    attach(clinic.bus, three, operator=True, watch=nobody)
    for position, state in before.items():
        assert canonical(clinic.state(position)) == canonical(without(_plain(state), 1)), position


def _plain(state: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """The visit that names nobody was the first patient's."""
    visits = [row | ({"note": "erased"} if row["id"] == 1 else {}) for row in state.get("visits", [])]
    return {**state, "visits": visits}


def test_an_archive_of_before_an_erasure_is_not_taken(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written, and cut off; then somebody was erased, whom the folder holds."""
    end = clinic.bus.journal.settled()
    bus = clinic.bus

    def cut_off(*_given: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(bus, "operate", cut_off)
        archive(bus, end, tmp_path / "a", operator=True, watch=nobody)
    assert bus.erase(1).images
    with pytest.raises(Exception, match="erasures: remove"):
        archived(bus, end, tmp_path / "a")
    assert bus.backend.read(lambda connection: erasures_made(bus.backend, connection)) == 1


def test_the_command_names_them(clinic: Clinic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(clinic.bus, clinic.bus.journal.settled(), tmp_path / "a")
    for table, column in (("visits", "id"), ("scraps", "patient_id"), ("patients", "id")):
        clinic.run(f"DELETE FROM {table} WHERE {column} = 2")
    archived(clinic.bus, clinic.bus.journal.settled(), tmp_path / "between")
    clinic.run("INSERT INTO visits VALUES (9, 1, 'again', 5)")
    archived(clinic.bus, clinic.bus.journal.settled(), tmp_path / "b")
    told = run("history", "erase", "2", "--yes").stderr
    assert f"{tmp_path / 'a'} still holds personal values of the subject, in 4 row images: attach it" in told
    assert f"{tmp_path / 'b'} has 1 row image with personal values of nobody named" in told
    shutil.rmtree(tmp_path / "b")
    [document] = documents(run("history", "erase", "1", "--yes", "--json"))
    a, _, b = document["archives"]
    assert (a["folder"], a["images"] > 0, a["error"]) == (str(tmp_path / "a"), True, None)
    assert (b["folder"], b["images"]) == (str(tmp_path / "b"), None)
    assert "No such file" in b["error"]


def test_the_command_does_not_say_to_attach_what_is_attached(clinic: Clinic, tmp_path: Path, run: Run) -> None:
    archived(clinic.bus, clinic.bus.journal.settled(), tmp_path / "a")
    attach(clinic.bus, tmp_path / "a", operator=True, watch=nobody)
    told = run("history", "erase", "2", "--yes").stderr
    assert f"{tmp_path / 'a'} still holds personal values of the subject" in told
    shutil.rmtree(tmp_path / "a")
    gone = run("history", "erase", "2", "--yes").stderr
    assert f"{tmp_path / 'a'} cannot be read from here" in gone
    for each in (told, gone):
        assert "delete it and its copies, if that is not done: what it holds is attached" in each
        assert "attach it" not in each
