"""Where erased values meet clear ones: pages, sums, shapes that changed, copies for a query, images out of order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.engine import URL

from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.history.declared import declare
from actionbus.core.history.decoding import ErasedValue
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.core.history.told.byhand import Book
from tests.core.privacy.clinic import Clinic, canonical

HEX = "0123456789abcdef" * 4
FORGED = ("x, erased:" + HEX, " erased:" + HEX, f'", erased:{HEX},"', f"\\, erased:{HEX})", "a, erased:" + HEX + ",b")


def fill(clinic: Clinic) -> int:
    """Patients, visits and scraps of two; the first is erased. The position before that."""
    at = clinic.run(
        "INSERT INTO patients (id, name, born, ward) VALUES (1, 'Ada', 1815, 'A'), (2, 'Bob', 1900, 'B')",
        "INSERT INTO visits VALUES (1, 1, 'of Ada', 10), (2, 2, 'of Bob', 20)",
        "INSERT INTO scraps VALUES (1, 'of Ada'), (1, 'more of Ada'), (2, 'of Bob')",
    )
    clinic.bus.erase(1)
    return at


def change(clinic: Clinic) -> int:
    """What stands is changed, in clear again: some of the columns that were erased, some others."""
    return clinic.run(
        "UPDATE patients SET ward = 'C'",
        "UPDATE visits SET note = note || '!'",
        "UPDATE scraps SET text = text || '!'",
        "DELETE FROM scraps WHERE text = 'more of Ada!'",
    )


def pages(clinic: Clinic, table: str, at: int | None = None) -> list[dict[str, Any]]:
    """All rows of a table, one a page."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["id"] if found else None
        (rows,) = clinic.bus.history.state(table, at, after=after, limit=1).tables.values()
        if not rows:
            return found
        found += rows


@pytest.mark.parametrize("is_altered", [False, True])
def test_pages_states_and_differences_across_an_erasure(clinic: Clinic, is_altered: bool) -> None:
    before = fill(clinic)
    if is_altered:
        clinic.past("ALTER TABLE visits ADD COLUMN extra TEXT", "ALTER TABLE scraps ADD COLUMN extra TEXT")
        with clinic.bus.engine.begin() as connection:
            install(clinic.bus.backend, connection, [TableWanted("visits"), TableWanted("scraps")], baseline=False)
    after = change(clinic)
    now = {
        name: [{**row, "extra": None} if is_altered and name != "patients" else row for row in rows]
        for name, rows in clinic.tables().items()
    }
    assert canonical(clinic.state()) == canonical(now)
    for table in ("patients", "visits"):
        assert canonical({table: pages(clinic, table)}) == canonical({table: now[table]})
        (ada, bob) = pages(clinic, table, before)
        assert [name for name, value in ada.items() if isinstance(value, ErasedValue)]
        assert not [name for name, value in bob.items() if isinstance(value, ErasedValue)]
    differing = clinic.bus.history.diff(before, after).rows
    told = sorted((each.table.rpartition(".")[2], each.before is None, each.after is None) for each in differing)
    scraps = [each for each in told if each[0] == "scraps"]
    assert [each for each in told if each[0] != "scraps"] == [
        *[("patients", False, False)] * 2,
        *[("visits", False, False)] * 2,
    ]
    assert sum(not is_new for _, is_new, _ in scraps) - sum(not is_gone for _, _, is_gone in scraps) == 1


@pytest.mark.parametrize("is_altered", [False, True])
def test_a_query_sees_null_where_a_value_was_erased_and_what_came_later(clinic: Clinic, is_altered: bool) -> None:
    before = fill(clinic)
    if is_altered:
        clinic.past("ALTER TABLE patients ADD COLUMN extra TEXT", "ALTER TABLE scraps ADD COLUMN extra TEXT")
        with clinic.bus.engine.begin() as connection:
            install(clinic.bus.backend, connection, [TableWanted("patients"), TableWanted("scraps")], baseline=False)
    after = change(clinic)

    def first(sql: str, bad: int = after) -> int | None:
        source = clinic.bus.history.bisect(sql, bad=bad).source
        return source and source.position

    assert first("SELECT count(*) = 2 AND count(born) = 1 AND max(born) = 1900 FROM patients", after - 1) == before
    assert first("SELECT count(*) = 2 AND min(born) = 1815 AND count(greeting) = 2 FROM patients") == after
    assert first("SELECT count(*) = 3 AND count(text) = 1 FROM scraps", after - 1) == before
    assert first("SELECT count(*) = 2 AND count(text) = 2 FROM scraps") == after
    assert first("SELECT count(*) > 0 FROM visits WHERE note = 'of Ada'") is None


def test_what_only_looks_erased_is_no_less_there(clinic: Clinic) -> None:
    """Beside values that are erased, in one row: what stands between them is told, and seen by a query, as it was."""
    table = clinic.models.tables["visits"]
    with clinic.bus.engine.begin() as connection:
        for number, text in enumerate(FORGED, 1):
            connection.execute(insert(table), {"id": number, "patient_id": 2, "note": text, "fee": 1})
            named = {"id": number, "name": text, "born": 1900 + number, "ward": text}
            connection.execute(insert(clinic.models.tables["patients"]), named)
    clinic.run("UPDATE visits SET fee = 2")
    for number in range(1, len(FORGED) + 1):
        if number != 2:
            clinic.bus.erase(number)
    told = clinic.state()
    assert sorted(row["note"] for row in told["visits"]) == sorted(FORGED)
    assert sorted(row["ward"] for row in told["patients"]) == sorted(FORGED)
    assert [row["name"] for row in told["patients"] if not isinstance(row["name"], ErasedValue)] == [FORGED[1]]
    wards = " OR ".join("ward = '" + each.replace("'", "''") + "'" for each in FORGED)
    sql = f"SELECT count(*) = 5 AND count(name) = 1 AND count(born) = 1 FROM patients WHERE {wards}"
    assert clinic.bus.history.bisect(sql).source is not None
    sql = "SELECT count(DISTINCT note) = 5 AND min(length(note)) > 60 FROM visits"
    assert clinic.bus.history.bisect(sql).source is not None


@pytest.fixture
def book(url: URL) -> Iterator[Book]:
    book = Book(url)
    with book.bus.engine.begin() as connection:
        declared = [TableDeclaration("items", None, {"name": "id"}, None)]
        declare(book.bus.backend, connection, declared, is_whole=False)
    yield book
    book.close()


def test_images_out_of_order_are_summed_though_any_erased_value_would_follow(book: Book) -> None:
    """`b` to `c` has a smaller number than `a` to `b`: what is left is `c`, whose stand-in no other value has."""
    shape = book.shape("items", "id name ward")
    book.image(shape, None, (1, "a", "x"))
    third = book.image(shape, (1, "b", "x"), (1, "c", "x"))
    book.image(shape, (1, "a", "x"), (1, "b", "x"))
    book.image(shape, None, (2, "a", "x"))
    end = book.record()
    assert [row["name"] for row in book.state("items", end)] == ["c", "a"]
    erasure = book.bus.erase(1)
    assert erasure.images == {("items" if book.is_sqlite else "public.items"): 3}
    stand_ins = {
        each.after["name"]
        for each in book.history.rows("items", 1, end).changes
        if each.after is not None and isinstance(each.after["name"], ErasedValue)
    }
    assert len(stand_ins) == 3
    names = {row["id"]: row["name"] for row in book.state("items", end)}
    assert names[2] == "a"
    with book.history.opened(end) as opened:
        recorded = opened.one("items")
        (image,) = [e for e in opened.images.of_row(recorded.shapes, (1,), 0, opened.cut) if e.image == third]
        (held,) = opened.images.values(recorded.shape, [image.after])
    assert names[1] == held[1]
    # Told in clear again, and erased once more under another salt: neither is a gap.
    book.image(shape, (1, "c", "x"), (1, "c", "y"))
    later = book.record(after=book.last() - 1)
    answer = book.history.state("items", later)
    assert answer.basis.gaps == ()
    assert ("c", "y") in {(row["name"], row["ward"]) for (rows) in answer.tables.values() for row in rows}
    book.bus.erase(1)
    answer = book.history.state("items", later)
    assert answer.basis.gaps == ()
    (rows,) = answer.tables.values()
    assert sorted((isinstance(row["name"], ErasedValue), row["ward"]) for row in rows) == [(False, "x"), (True, "y")]
