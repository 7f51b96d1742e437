"""What an application declares of its tables for the sake of privacy: read by `declare.registry`, kept by the bus.

`Column(…, info={"personal": "customer_id"})` holds data about whom the row's column `customer_id` names.
`Column(…, info={"sensitive": True})` is never recorded.
`Table(…, info={"keep": "90 days"})` is how long its history is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, MetaData, Table

_KEEP: Final = re.compile(r"([1-9][0-9]{0,5}) (day|week|year)s?", re.ASCII)
_DAYS: Final = {"day": 1, "week": 7, "year": 365}


class TableDeclaration(NamedTuple):
    """What is declared of one table."""

    name: str
    schema: str | None
    personal: dict[str, str]
    """By column, the one that names the subject."""
    keep: str | None


def declared_of(models: MetaData | None, unrecorded: Collection[str] = ()) -> list[TableDeclaration]:
    """What the models declare of each recorded table."""
    tables = (each for each in (models.sorted_tables if models is not None else ()) if each.key not in unrecorded)
    return [TableDeclaration(each.name, each.schema, _personal(each), each.info.get("keep")) for each in tables]


def withheld_of(table: Table) -> tuple[str, ...]:
    """Columns that never enter an image: the sensitive ones, and those computed from them."""
    sensitive = {column.name for column in table.columns if column.info.get("sensitive")}
    return tuple(c.name for c in table.columns if c.name in sensitive or sensitive & _sources(table, c))


def keep_of(text: str) -> timedelta:
    """How long `90 days`, `12 weeks` or `10 years` (of 365 days) are. Raises ValueError."""
    found = _KEEP.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"keep is to be such as '90 days', '12 weeks' or '10 years', not {text!r}")
    return timedelta(days=int(found[1]) * _DAYS[found[2]])


def problems_of(models: MetaData | None, unrecorded: Collection[str] = ()) -> list[str]:
    """What is wrong with these declarations."""
    tables = models.sorted_tables if models is not None else ()
    return [problem for table in tables if table.key not in unrecorded for problem in _problems(table)]


def _problems(table: Table) -> Iterator[str]:
    withheld = withheld_of(table)
    for name, subject in _personal(table).items():
        where = f"{table.name}.{name}: info={{'personal': {subject!r}}}"
        if not isinstance(subject, str) or subject not in table.columns:
            yield f"{where} is to be the name of the column of {table.name} that holds whom the data is about"
        elif subject in withheld:
            yield f"{where}: the column {subject} is never recorded, so nobody could tell whose an old row was"
        elif name in table.primary_key.columns and name not in withheld:
            yield (
                f"{where}: {name} is part of the primary key, which every image and its index have in clear, so it "
                "could not be erased; give the table a key that says nothing, or do not record it (unrecorded=)"
            )
    if "keep" in table.info:
        try:
            keep_of(table.info["keep"])
        except ValueError as error:
            yield f"{table.name}: {error}"


def _personal(table: Table) -> dict[str, Any]:
    """By column; one that is computed from a personal column is so too. A withheld one is in no image."""
    withheld = withheld_of(table)
    named = {column.name: column.info["personal"] for column in table.columns if column.info.get("personal")}
    for column in table.columns:
        for source in sorted(named.keys() & _sources(table, column)):
            named.setdefault(column.name, named[source])
    return {name: subject for name, subject in named.items() if name not in withheld}


def _sources(table: Table, column: Column[Any]) -> set[str]:
    """The columns that a computed column's expression names, directly or through others."""
    found: set[str] = set()
    left = [column]
    while left:
        computed = left.pop().computed
        if computed is None:
            continue
        sql = str(computed.sqltext)
        new = {each.name for each in table.columns if _names(sql, each.name)} - found
        left += [table.columns[name] for name in new]
        found |= new
    return found


def _names(sql: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.I) is not None
