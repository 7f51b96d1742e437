"""The tables of the first release are frozen: what makes them does not change unnoticed, and makes what is read."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL

from actionbus.adapters import database
from actionbus.core.storage import ddl
from actionbus.core.storage.engines import backend_for
from actionbus.core.storage.runs import queues_table, runs_table
from actionbus.core.storage.table import identity_table, journal_table
from actionbus.projections.ledger import Ledger
from actionbus.projections.verified import Verifications
from tests.conftest import query
from tests.helpers import ROOT

MADE = {
    "postgresql": "a17eb2015cbb85af97fe28c7f69e009b5d4f390541655d7278ab604ee3cd195f",
    "sqlite": "f8b28a6e200f83c81ec498428b30708deda913862e12f556e919881a7d1f229c",
}
"""sha256 of the SQL of 0001. It stands in people's databases: what is to be otherwise is a new version beside it."""


@pytest.mark.parametrize("dialect", sorted(MADE))
def test_what_makes_the_tables_is_what_it_was(dialect: str) -> None:
    made = "\0".join(str(each.statement) for each in ddl.statements(dialect, "0001"))
    assert hashlib.sha256(made.encode()).hexdigest() == MADE[dialect]


def test_one_revision_makes_them_all() -> None:
    versions = sorted(each.name for each in (ROOT / "adapters/migrations/versions").glob("0*.py"))
    assert versions[0] == "0001_tables.py"
    assert [each.partition("_")[0] for each in versions] == list(ddl.VERSIONS)


def test_the_revision_makes_the_columns_that_are_read(url: URL) -> None:
    engine = create_engine(url)
    database.upgrade(engine)
    made = inspect(engine)
    backend = backend_for(engine, None, own_engine=False)
    read = [journal_table(), identity_table(), runs_table(backend), queues_table(backend), Ledger(backend)._table]
    read.append(Verifications(backend)._table)
    for table in read:
        there = {each["name"] for each in made.get_columns(table.name)}
        assert {column.name for column in table.columns} <= there, table.name
    alone = {"actionbus_bypasses"} if url.get_backend_name() == "postgresql" else set()
    assert set(made.get_table_names()) == {*ddl.TABLES["0001"], *alone}
    engine.dispose()
    assert query(url, "SELECT version_num FROM actionbus_version") == [("0001",)]
