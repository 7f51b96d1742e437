"""What threads share of SQLAlchemy's objects is settled before a second thread can see it."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ColumnElement, Double, Integer, Table, Text, literal, literal_column
from sqlalchemy.engine import URL
from sqlalchemy.sql.visitors import iterate

from actionbus import Bus
from actionbus.core.storage.shared import _OF_LITERALS, shared, shared_table
from actionbus.projections.ledger import Ledger
from actionbus.projections.operating import Pauses
from tests.conftest import prepared
from tests.shop.app import make_application

before_3_12 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the collector waits for a safe point from 3.12 on"
)

MADE_TWICE = '''
"""The interpreter's bug itself: the collector runs in the middle of `one.__dict__`, and what it calls asks as well."""
import gc

class Slotted:
    __slots__ = ("a",)

class Plain:
    def __init__(self):
        self.a = 1

twice = False
its = made = kept = None
for already in range(60):
    one, seen, armed = Plain(), [], False
    its = made = kept = None
    gc.callbacks[:] = [lambda phase, info: seen.append(one.__dict__) if armed and phase == "start" else None]
    gc.collect()
    gc.disable()
    made = [{} for _ in range(100)]  # no dictionary is left over that could be used again
    gc.set_threshold(gc.get_count()[0] + 30, 10_000, 10_000)
    kept = [Slotted() for _ in range(already)]
    armed = True
    gc.enable()
    its = one.__dict__
    gc.disable()
    twice |= bool(seen) and seen[0] is not its
print(twice)
'''


def is_settled(each: object) -> bool:
    """Whether the object has its dictionary already, asked without making it."""
    return any(type(referent) is dict for referent in gc.get_referents(each))


def unsettled(*elements: ColumnElement[Any]) -> list[object]:
    return [
        each for element in elements for part in iterate(element) for each in (part, part.type) if not is_settled(each)
    ]


def held(*roots: object) -> Iterator[object]:
    """What objects of ours hold, however deep, as long as the way leads through objects of ours."""
    seen, left = set[int](), list(roots)
    while left:
        each = left.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            if isinstance(each, (dict, list, tuple, set)) or type(each).__module__.startswith("actionbus"):
                left += gc.get_referents(each)


@before_3_12
def test_the_interpreter_still_needs_it(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(MADE_TWICE)
    asked = subprocess.run([sys.executable, tmp_path / "twice.py"], capture_output=True, text=True, check=True)
    assert asked.stdout == "True\n"


@before_3_12
def test_a_table_and_an_expression_are_settled_when_they_are_made() -> None:
    columns = Column("a", Integer()), Column("b", Text())
    assert unsettled(*columns, literal_column("now()", Double()))
    table = shared_table("t", None, *columns)
    assert is_settled(table)
    assert not unsettled(*table.columns, shared(literal_column("now()", Double())))
    assert all(is_settled(literal(value).type) for value in _OF_LITERALS)


@before_3_12
def test_a_bus_holds_nothing_that_its_threads_would_settle(url: URL) -> None:
    prepared(url)
    with Bus(make_application(), url) as bus:
        found = list(held(bus, bus.runs, Ledger(bus.backend), Pauses(bus.backend)))
        tables = {each.name: each for each in found if isinstance(each, Table)}
        assert {"journal", "actionbus_runs", "actionbus_queues", "actionbus_checkpoints", "actionbus_pauses"} <= {
            *tables
        }
        expressions = [each for each in found if isinstance(each, ColumnElement)]
        assert expressions
        assert not unsettled(*expressions, *(column for table in tables.values() for column in table.columns))
