"""A journal out of one database and into another: what was erased stays so, and what was not can be erased there."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.core.history.declared import read_declared
from actionbus.core.values.payload import ERASED
from actionbus.replay import Replayer
from actionbus.replay.archives.transfer import export, import_into
from tests.core.privacy.actions.admit import Admit
from tests.core.privacy.clinic import Clinic
from tests.replay.conftest import NewSandbox
from tests.servers import Server


def enter(handler: Any) -> Any:
    """A row of each table."""
    given = {"i": handler.args.patient_id, "n": handler.args.name}
    handler.session.execute(text("INSERT INTO patients (id, name, born) VALUES (:i, :n, 1900 + :i)"), given)
    handler.session.execute(text("INSERT INTO scraps VALUES (:i, :n)"), given)
    return {"hello": handler.args.name}


@pytest.fixture
def clinic(url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    """Of three patients; the first is erased, and stands in the tables still."""
    monkeypatch.setattr(Admit, "function", enter)
    clinic = Clinic(url)
    for patient, name in enumerate(("Ada Lovelace", "Bob Smith", "Cyd Charisse"), 1):
        clinic.bus.execute("admit", {"patient_id": patient, "name": name})
    clinic.bus.erase(1)
    clinic.run("UPDATE patients SET ward = 'W'", "UPDATE scraps SET text = 'rewritten' WHERE patient_id = 3")
    yield clinic
    clinic.bus.close()


@pytest.fixture
def other(clinic: Clinic, server: Server, tmp_path: Path) -> Iterator[Bus]:
    """A database of the same kind with a journal, empty."""
    is_sqlite = clinic.url.get_backend_name() == "sqlite"
    place = make_url(f"sqlite:///{tmp_path / 'other.db'}") if is_sqlite else server.database()
    with Bus(clinic.application, place) as bus:
        bus.journal.create()
        yield bus
    if not is_sqlite:
        server.drop(place)


def names(bus: Bus) -> list[Any]:
    return [each.arguments["name"] for each in bus.journal.read(action="admit", kind="outcome")]


def changed(bus: Bus) -> list[Any]:
    """What became of the first patient's row."""
    return [(each.before, each.after) for each in bus.history.rows("patients", 1).changes]


def stored(bus: Bus) -> str:
    """Journal and images as they stand in the database."""
    with bus.engine.connect() as connection:
        rows = [
            row
            for table in ("journal", "actionbus_images")
            for row in connection.execute(text(f"SELECT * FROM {table}"))
        ]
    return "\n".join(str(tuple(row)) for row in rows)


def test_an_import_tells_the_same_and_can_be_erased_further(clinic: Clinic, other: Bus, tmp_path: Path) -> None:
    path, end = tmp_path / "journal.gz", clinic.bus.journal.last()
    export(clinic.bus.journal, path, history=clinic.bus.history)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    records = [line for line in lines if '"position"' in line]
    assert "Bob Smith" not in "\n".join(records), "encrypted in the file too"
    import_into(other, path)
    for at in range(1, end + 1):
        assert repr(other.history.state(at=at).tables) == repr(clinic.bus.history.state(at=at).tables)
    assert changed(other) == changed(clinic.bus)
    assert len(changed(other)) == 2
    sql = "SELECT count(name) = 2 AND count(*) = 3 FROM patients"
    erased = next(clinic.bus.journal.read(action="erase_subject", kind="outcome")).position
    source, expected = (each.bisect(sql, bad=erased).source for each in (other.history, clinic.bus.history))
    assert source is not None
    assert expected is not None
    assert source.position == expected.position
    assert names(other) == [ERASED, "Bob Smith", "Cyd Charisse"]
    with other.engine.connect() as connection, clinic.bus.engine.connect() as ours:
        declared = read_declared(connection, other.backend.prefix)
        assert declared == read_declared(ours, clinic.bus.backend.prefix) != {}
    erasure = other.erase(2)
    assert (sum(erasure.images.values()), erasure.keys) == (3, 1)
    assert names(other) == [ERASED, ERASED, "Cyd Charisse"]
    assert "Bob Smith" not in stored(other)
    assert "Cyd" in stored(other)
    assert names(clinic.bus) == [ERASED, "Bob Smith", "Cyd Charisse"]
    again = tmp_path / "again.gz"
    export(other.journal, again, history=other.history)
    assert "Bob Smith" not in gzip.decompress(again.read_bytes()).decode()


def test_keys_come_along_into_a_database_of_the_other_kind(clinic: Clinic, server: Server, tmp_path: Path) -> None:
    path, is_sqlite = tmp_path / "journal.gz", clinic.url.get_backend_name() == "sqlite"
    export(clinic.bus.journal, path)
    place = server.database() if is_sqlite else make_url("sqlite://")
    with Bus(clinic.application, place) as unlike:
        unlike.journal.create()
        import_into(unlike, path)
        assert names(unlike) == [ERASED, "Bob Smith", "Cyd Charisse"]
        assert [each.format for each in unlike.journal.as_stored()] == [
            each.format for each in clinic.bus.journal.as_stored()
        ]
        assert unlike.erase(2).keys == 1
        assert names(unlike) == [ERASED, ERASED, "Cyd Charisse"]
    if is_sqlite:
        server.drop(place)


def test_under_made_up_values_no_key_comes_along(clinic: Clinic, tmp_path: Path) -> None:
    path = tmp_path / "journal.gz"
    export(clinic.bus.journal, path, pseudonymize=["name"])
    told = gzip.decompress(path.read_bytes()).decode()
    assert "Bob Smith" not in told
    assert "$personal" not in told
    assert "actionbus_subject_keys" not in told
    with Bus(clinic.application, make_url("sqlite://")) as laptop:
        laptop.journal.create()
        import_into(laptop, path)
        first, second, _ = names(laptop)
        assert first == ERASED
        assert second.startswith("p-")


def test_an_import_replays_as_its_original_does(
    clinic: Clinic, other: Bus, tmp_path: Path, new_sandbox: NewSandbox
) -> None:
    path = tmp_path / "journal.gz"
    export(clinic.bus.journal, path, history=clinic.bus.history)
    import_into(other, path)
    told = []
    for bus in (clinic.bus, other):
        with Replayer(bus.journal, clinic.application, new_sandbox()) as replayer:
            told.append([(step.verdict, step.why) for step in replayer.verify()])
    assert told[0] == told[1]
    assert [verdict for verdict, _ in told[0]] == ["unplayable", "same", "same", "unplayable", "unplayable"]
