"""Objects of SQLAlchemy that all threads use, settled by the one that makes them; called where tables are declared.

CPython 3.11 keeps an object's attributes without a dictionary until `__dict__` is first asked for. While it makes that
dictionary the garbage collector may run, and with it (a finalizer, a weak reference's callback) another thread. If that
one asks the same object, there are two dictionaries over one array of values, and what is freed twice ends the process.
SQLAlchemy asks for `__dict__` whenever it remembers something, so eight threads that use a column for the first time
could end it: seen once in sixty runs. From 3.12 on the collector waits for a safe point and none of this is needed.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Column, MetaData, Table, literal
from sqlalchemy.sql.elements import ClauseElement, ColumnElement
from sqlalchemy.sql.visitors import iterate

_Element = TypeVar("_Element", bound=ClauseElement)

_OF_LITERALS: Final = (
    True,
    1,
    1.0,
    "",
    b"",
    None,
    Decimal(),
    UUID(int=0),
    date.min,
    datetime.min,
    time.min,
    timedelta(),
)


def shared_table(name: str, schema: str | None, *columns: Column[Any]) -> Table:
    """A table for queries, in a catalogue of its own."""
    table = Table(name, MetaData(schema=schema), *columns)
    vars(table)
    for column in table.columns:
        shared(column)
    return table


def shared(element: _Element) -> _Element:
    """The same expression; all its parts and their types have their dictionaries."""
    for part in iterate(element):
        vars(part)
        if isinstance(part, ColumnElement):
            vars(part.type)
    return element


for _value in _OF_LITERALS:  # a literal's type is one object for the whole process
    shared(literal(_value))
