"""A record is the same whether its columns were decoded at once or when they were asked for."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus, JournalUnavailable, Record
from actionbus.core.storage.row_decoding import columns_to_read, fetch
from actionbus.core.storage.table import journal_table
from actionbus.core.values.record import FIELDS
from tests.conftest import BusFactory
from tests.helpers import opened


def undecoded(bus: Bus) -> list[Record]:
    """All records, nothing of them decoded."""
    table = journal_table(bus.backend.schema)
    columns = columns_to_read(table)

    def read(connection: Any) -> list[Any]:
        return fetch(connection, table.select().with_only_columns(*columns).order_by(table.c.position))

    return bus.journal.records_in(bus.backend.read(read))


WAYS: dict[str, Callable[[Record], Record]] = {
    "itself": lambda record: record,
    "pickled": lambda record: pickle.loads(pickle.dumps(record)),
    "copied": copy.copy,
    "copied in depth": copy.deepcopy,
    "replaced by itself": lambda record: record.replaced(),
    "made of its values": lambda record: Record(**record.values()),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_decoded_late_is_no_other_record(bus: Bus, way: str) -> None:
    opened(bus, 1, 2)
    decoded, late = list(bus.journal.read()), undecoded(bus)
    assert len(late) == 4
    for one, other in zip(decoded, late, strict=True):
        assert WAYS[way](other) == one
        for name in FIELDS:
            assert getattr(other, name) == getattr(one, name)
        assert repr(other) == repr(one)
        assert other.public() == one.public()
    assert undecoded(bus)[0] != decoded[1]


@pytest.mark.parametrize("field", FIELDS)
def test_records_differ_by_every_field(make_sqlite_bus: BusFactory, field: str) -> None:
    record = next(opened(make_sqlite_bus(), 1).journal.read())
    assert record.replaced(**{field: object()}) != record


def test_a_record_cannot_be_changed(bus: Bus) -> None:
    opened(bus, 1)
    for record in (next(bus.journal.read()), undecoded(bus)[0]):
        for name in (*FIELDS, "anything"):
            with pytest.raises(AttributeError, match="cannot be changed"):
                setattr(record, name, None)
            with pytest.raises(AttributeError, match="cannot be changed"):
                delattr(record, name)
        with pytest.raises(AttributeError, match="no 'nonsense'"):
            _ = record.nonsense  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="nonsense"):
            record.replaced(nonsense=1)


def test_what_cannot_be_decoded_is_told_when_it_is_asked_for(make_sqlite_bus: BusFactory) -> None:
    bus = make_sqlite_bus()
    with bus.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO journal (action_id, kind, action, correlation_id, arguments) "
                "VALUES ('no id', 'submitted', 'x', 'x', '{nope')"
            )
        )
    (late,) = undecoded(bus)
    assert (late.position, late.action, late.context) == (1, "x", None)
    for name in ("arguments", "action_id"):
        with pytest.raises(JournalUnavailable, match="position 1 cannot be read"):
            getattr(late, name)
