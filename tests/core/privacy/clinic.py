"""The clinic: tables with personal columns, and what tests do with them. Used by tests of erasing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Computed, Integer, MetaData, String, Table, inspect, select
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.core.history.decoding import ErasedValue
from tests.copies import copied
from tests.core.privacy.actions.run_sql import RunSql

OF_PATIENT = {"personal": "id"}
OF_VISITOR = {"personal": "patient_id"}


def models() -> MetaData:
    """Patients by their key, visits by a column that may be NULL, scraps without a key."""
    metadata = MetaData()
    Table(
        "patients",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String, info=dict(OF_PATIENT)),
        Column("born", Integer, info=dict(OF_PATIENT)),
        Column("ward", String),
        Column("greeting", String, Computed("'Dear ' || name", persisted=True)),
        info={"keep": "10 years"},
    )
    Table(
        "visits",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("patient_id", Integer),
        Column("note", String, info=dict(OF_VISITOR)),
        Column("fee", Integer),
    )
    Table("scraps", metadata, Column("patient_id", Integer), Column("text", String, info=dict(OF_VISITOR)))
    return metadata


def create(url: URL) -> None:
    """Journal and tables, with what records their rows."""
    with Bus(Application("clinic", actions=["tests.core.privacy.actions"], models=models()), url) as bus:
        bus.create()


class Clinic:
    """A bus upon a new database, and copies of its tables."""

    def __init__(self, url: URL, actions: tuple[str, ...] = ("tests.core.privacy.actions",)) -> None:
        self.models = models()
        self.application = Application("clinic", actions=list(actions), models=self.models)
        self.bus = Bus(self.application, url)
        if not copied(url, "clinic", create):
            self.bus.create()
        self.url = url

    def run(self, *statements: str, **values: Any) -> int:
        """Statements as one action; its position."""
        RunSql.statements = [(each, values) for each in statements]
        return self.bus.execute("run_sql").position

    def past(self, *statements: str) -> None:
        """Statements past the gateway."""
        with self.bus.engine.begin() as connection:
            for each in statements:
                connection.exec_driver_sql(each)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """All rows, as they stand."""
        with self.bus.engine.connect() as connection:
            return {
                name: [dict(row) for row in connection.execute(select(table)).mappings()]
                for name, table in self.models.tables.items()
                if inspect(connection).has_table(name)
            }

    def state(self, at: Any = None) -> dict[str, list[dict[str, Any]]]:
        """All rows, as the history tells them; for `canonical`."""
        answer = self.bus.history.state(at=at)
        assert answer.basis.gaps == ()
        return {name.rpartition(".")[2]: rows for name, rows in answer.tables.items()}


def without(tables: dict[str, list[dict[str, Any]]], subject: int) -> dict[str, list[dict[str, Any]]]:
    """The same with the subject's personal values marked as erased."""
    personal = {"patients": ("name", "born", "greeting"), "visits": ("note",), "scraps": ("text",)}
    named = {"patients": "id", "visits": "patient_id", "scraps": "patient_id"}
    return {
        name: [
            {
                column: "erased"
                if row[named[name]] == subject and column in personal[name] and value is not None
                else value
                for column, value in row.items()
            }
            for row in rows
        ]
        for name, rows in tables.items()
    }


def canonical(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Comparable, whatever the order of rows; an erased value as such."""
    return {
        name: sorted(
            repr({n: "erased" if isinstance(v, ErasedValue) else v if v is None else str(v) for n, v in row.items()})
            for row in rows
        )
        for name, rows in tables.items()
        if rows
    }
