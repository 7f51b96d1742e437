"""Erasing a subject from row images: his values are gone, everything else is told as before."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from actionbus.core.history.decoding import ErasedValue, shown
from actionbus.core.history.erasing import commitment
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.core.privacy.clinic import Clinic, canonical, without

_WORDS = ("fever", 'it, ("quoted")', "a\\b", "", " spaced ", "Zoë", "erased:00", " erased:00", "x" * 40, "(a,b)")


def _random_history(clinic: Clinic, seed: int, count: int) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Changes of rows of three patients; the tables as they were at each position."""
    chance = random.Random(seed)
    copies = {}
    for number in range(count):
        word, key, visit = chance.choice(_WORDS), chance.randint(1, 3), chance.randint(1, 6)
        values = {"w": f"{word}{chance.randint(0, 3)}", "k": key, "v": visit, "n": chance.choice([1, 2, 3, None])}
        values |= {"b": chance.choice([None, 1900 + number]), "f": number}
        statements = [
            "INSERT INTO patients (id, name, born, ward) VALUES (:k, :w, :b, 'A') ON CONFLICT (id) DO UPDATE SET "
            "name = excluded.name, born = excluded.born",
            "UPDATE patients SET ward = 'W' || :f WHERE id = :k",
            "DELETE FROM patients WHERE id = :k",
            "INSERT INTO visits (id, patient_id, note, fee) VALUES (:v, :n, :w, :f) ON CONFLICT (id) DO UPDATE SET "
            "fee = excluded.fee, note = excluded.note",
            "UPDATE visits SET patient_id = :n WHERE id = :v",
            "DELETE FROM visits WHERE id = :v",
            "INSERT INTO scraps (patient_id, text) VALUES (:n, :w)",
            "UPDATE scraps SET text = :w WHERE patient_id = :k",
            "DELETE FROM scraps WHERE patient_id = :k AND text = :w",
        ]
        chosen = chance.sample(statements, chance.randint(1, 3))
        chosen = [each.replace(":f", str(number)) for each in chosen]
        used = {name: value for name, value in values.items() if any(f":{name}" in each for each in chosen)}
        position = clinic.run(*chosen, **used)
        copies[position] = clinic.tables()
    return copies


@pytest.mark.parametrize("seed", range(2))
def test_all_is_told_as_before_but_for_the_values(clinic: Clinic, seed: int) -> None:
    copies = _random_history(clinic, seed, 60)
    before = {position: canonical(clinic.state(position)) for position in copies}
    assert before == {position: canonical(tables) for position, tables in copies.items()}
    erasure = clinic.bus.erase(2)
    assert erasure.images
    for position, tables in copies.items():
        told = clinic.state(position)
        assert _others(told) == _others(without(tables, 2))
        assert _agrees(told, without(tables, 2))
    positions = sorted(copies)
    for a, b in zip(positions, positions[7:], strict=False):
        differing = clinic.bus.history.diff(a, b).rows
        assert {each.table for each in differing} <= set(_qualified(clinic))
    assert clinic.bus.erase(2).images == {}


def _qualified(clinic: Clinic) -> set[str]:
    return set(clinic.bus.history.state().tables)


def _others(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Rows that are neither the subject's nor, being nobody's, may have been."""
    kept = {
        name: [row for row in rows if row.get("patient_id", row.get("id")) not in (2, None)]
        for name, rows in tables.items()
    }
    return canonical(kept)


def _agrees(told: dict[str, list[dict[str, Any]]], expected: dict[str, list[dict[str, Any]]]) -> bool:
    """Whether the subject's rows have no value left, and those of nobody have their value or none."""
    for name, rows in expected.items():
        found = told.get(name, [])
        his = [row for row in rows if row.get("patient_id", row.get("id")) == 2]
        assert canonical({name: his}) == canonical({name: [r for r in found if r.get("patient_id", r.get("id")) == 2]})
        nobodys = [row for row in rows if "patient_id" in row and row["patient_id"] is None]
        assert len(nobodys) == len([r for r in found if "patient_id" in r and r["patient_id"] is None])
    return True


def test_what_changed_is_still_blamed_and_told_as_erased(clinic: Clinic) -> None:
    first = clinic.run(
        "INSERT INTO patients (id, name, born, ward) VALUES (1, 'Ada', 1815, 'A'), (2, 'Bob', 1900, 'B')"
    )
    second = clinic.run("UPDATE patients SET ward = 'C' WHERE id = 1")
    third = clinic.run("UPDATE patients SET name = 'Ada L' WHERE id = 1")
    clinic.bus.erase(1)
    blamed = {each.column: each for each in clinic.bus.history.blame("patients", 1).columns}
    positions = {name: each.change.who.source.position for name, each in blamed.items() if each.change.who.source}
    assert positions == {"id": first, "born": first, "ward": second, "name": third, "greeting": third}
    assert all(isinstance(blamed[name].value, ErasedValue) for name in ("name", "born", "greeting"))
    assert shown(blamed["name"].value) == {"$erased": blamed["name"].value.stand_in}
    changes = clinic.bus.history.rows("patients", 1).changes
    assert changes[1].columns() == ["ward"]
    assert changes[1].after is not None
    assert changes[2].before == changes[1].after
    differing = clinic.bus.history.diff(first, third, "patients").rows
    assert [each.key for each in differing] == [{"id": 1}]
    assert clinic.bus.history.bisect("SELECT EXISTS (SELECT 1 FROM patients WHERE ward = 'C')").source is not None
    assert clinic.bus.history.rows("patients", 2).changes[0].after == {
        "id": 2,
        "name": "Bob",
        "born": 1900,
        "ward": "B",
        "greeting": "Dear Bob",
    }


def test_a_baseline_is_erased_as_well(clinic: Clinic) -> None:
    clinic.past("DELETE FROM patients", "INSERT INTO patients (id, name, born) VALUES (1, 'Ada', 1815), (2, 'Bob', 1)")

    with clinic.bus.engine.begin() as connection:
        install(clinic.bus.backend, connection, [TableWanted("patients")], baseline=True)
    clinic.bus.erase(1)
    (ada, bob) = sorted(clinic.state()["patients"], key=lambda row: row["id"])
    assert isinstance(ada["name"], ErasedValue)
    assert bob["name"] == "Bob"


def test_rows_that_stand_are_told_and_their_next_change_is_no_gap(clinic: Clinic) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')", "INSERT INTO scraps VALUES (1, 'x'), (2, 'x')")
    erasure = clinic.bus.erase(1)
    assert {name.rpartition(".")[2]: n for name, n in erasure.standing.items()} == {"patients": 1, "scraps": 1}
    clinic.run("UPDATE patients SET ward = 'B' WHERE id = 1", "UPDATE scraps SET text = 'y' WHERE patient_id = 1")
    assert canonical(clinic.state()) == canonical(clinic.tables())
    assert [each.operation for each in clinic.bus.history.rows("patients", 1).changes] == ["insert", "update"]
    clinic.run("DELETE FROM patients WHERE id = 1", "DELETE FROM scraps WHERE patient_id = 1")
    again = clinic.bus.erase(1)
    assert again.standing == {}
    assert canonical(clinic.state()) == canonical(clinic.tables())
    assert not _texts(clinic, "Ada")


def _texts(clinic: Clinic, value: str) -> list[Any]:
    """Images that hold a value."""
    with clinic.bus.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM actionbus_images")).all()
    return [row for row in rows if any(value in str(each) for each in row)]


def test_a_row_belongs_to_whom_it_names_and_to_him_alone(clinic: Clinic) -> None:
    clinic.run("INSERT INTO visits VALUES (1, NULL, 'before anybody', 1)")
    clinic.run("UPDATE visits SET patient_id = 1, note = 'of one' WHERE id = 1")
    clinic.run("UPDATE visits SET patient_id = 2, note = 'of two' WHERE id = 1")
    clinic.run("UPDATE visits SET patient_id = NULL, note = 'after all' WHERE id = 1")
    clinic.run("INSERT INTO visits VALUES (2, NULL, 'of nobody ever', 1)")
    clinic.bus.erase(1)
    assert not _texts(clinic, "of one")
    assert not _texts(clinic, "before anybody")
    assert not _texts(clinic, "after all")
    assert _texts(clinic, "of two")
    assert _texts(clinic, "of nobody ever")
    assert clinic.state() is not None


def test_its_record_tells_no_subject_and_the_receipt_shows_whose_it_is(clinic: Clinic) -> None:
    clinic.run("INSERT INTO scraps VALUES (417250, 'Ada')")
    erasure = clinic.bus.erase(417250, actor="clerk")
    record = clinic.bus.journal.get(erasure.outcome.action_id)
    assert record is not None
    assert (record.action, record.actor, record.status) == ("erase_subject", "clerk", "succeeded")
    assert "417250" not in repr(record.values())
    assert erasure.receipt not in repr(record.values())
    assert record.arguments == {"subject": commitment(erasure.receipt, "417250")}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE actionbus_images SET shape = shape + 1",
        "DELETE FROM actionbus_images",
        "UPDATE actionbus_erasures SET subject = ''",
        "DELETE FROM actionbus_erasures",
    ],
)
def test_images_and_erasures_stay_append_only(clinic: Clinic, statement: str) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')")
    clinic.bus.erase(1)
    with pytest.raises(DatabaseError, match="never changed or removed"):
        clinic.past(statement)


def test_a_value_is_not_changed_in_place(clinic: Clinic) -> None:
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')")
    clinic.bus.erase(1)
    name = "after" if clinic.url.get_backend_name() == "postgresql" else "n2"
    with pytest.raises(DatabaseError, match="never changed or removed"):
        clinic.past(f"UPDATE actionbus_images SET {name} = 'Eve'")
