"""Subjects of every type and spelling, in the first and the last column of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, LargeBinary, MetaData, String, Table, Uuid, insert
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.core.history.decoding import ErasedValue

ID = UUID("0123abcd-0000-4000-8000-00000000ffff")
SUBJECTS = ("7", "a,b", '"quoted"', "(7)", "back\\slash", " spaced ", "O'Brien", "Zoë", "%", "'); DROP TABLE x; --", "")


def models() -> MetaData:
    metadata = MetaData()
    Table("people", metadata, Column("id", Uuid, primary_key=True), Column("name", String, info={"personal": "id"}))
    Table("first", metadata, Column("who", String), Column("body", String, info={"personal": "who"}))
    Table("last", metadata, Column("body", LargeBinary, info={"personal": "who"}), Column("who", String))
    Table("native", metadata, Column("body", String, info={"personal": "who"}), Column("who", Uuid(native_uuid=False)))
    return metadata


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    with Bus(Application("people", actions=[], models=models()), url) as bus:
        bus.create()
        yield bus


def put(bus: Bus, table: str, *rows: dict[str, Any]) -> None:
    with bus.engine.begin() as connection:
        assert bus.application.models is not None
        connection.execute(insert(bus.application.models.tables[table]), list(rows))


def told(bus: Bus, table: str) -> list[dict[str, Any]]:
    (rows,) = bus.history.state(table).tables.values()
    return rows


def test_whatever_a_subject_is_called_he_alone_is_erased(bus: Bus) -> None:
    for table, body in (("first", "text"), ("last", b"\x00bytes")):
        put(bus, table, *({"who": each, "body": body} for each in SUBJECTS))
    for number, subject in enumerate(filter(None, SUBJECTS), 1):
        erasure = bus.erase(subject)
        assert sorted(erasure.images.values()) == [1, 1], subject
        for table in ("first", "last"):
            rows = told(bus, table)
            erased = [row["who"] for row in rows if isinstance(row["body"], ErasedValue)]
            assert subject in erased
            assert len(erased) == number
    assert [row["body"] for row in told(bus, "first") if row["who"] == ""] == ["text"]


@pytest.mark.parametrize("given", [ID, str(ID), str(ID).upper(), ID.hex])
def test_an_uuid_is_known_in_each_of_its_spellings(bus: Bus, given: UUID | str) -> None:
    put(bus, "people", {"id": ID, "name": "Ada"}, {"id": UUID(int=7), "name": "Bob"})
    put(bus, "native", {"who": ID, "body": "of Ada"}, {"who": UUID(int=7), "body": "of Bob"})
    erasure = bus.erase(given)
    assert sorted(erasure.images.values()) == [1, 1]
    assert sorted(erasure.standing.values()) == [1, 1]
    names = [row["name"] for row in told(bus, "people")] + [row["body"] for row in told(bus, "native")]
    assert sum(isinstance(each, ErasedValue) for each in names) == 2
    assert {each for each in names if not isinstance(each, ErasedValue)} == {"Bob", "of Bob"}


@pytest.mark.parametrize("subject", [None, ""])
def test_nobody_cannot_be_erased(bus: Bus, subject: str | None) -> None:
    with pytest.raises(ValueError, match="say who is to be erased"):
        bus.erase(subject)


def test_what_looks_like_a_stand_in_is_a_value(bus: Bus) -> None:
    looks = f" erased:{'0' * 64}"
    put(bus, "first", {"who": "7", "body": looks}, {"who": "8", "body": "x"})
    bus.erase("8")
    assert [row["body"] for row in told(bus, "first") if row["who"] == "7"] == [looks]
    bus.erase("7")
    assert [row["body"] for row in told(bus, "first") if not isinstance(row["body"], ErasedValue)] == []
