"""Tables and arguments that changed since: no divergence as long as nobody gives another value to what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    func,
)
from sqlalchemy.engine import URL

from actionbus import Application, Arg, Bus
from actionbus.replay import Replayer, Step
from tests.replay.conftest import open_bus
from tests.replay.moving import TABLES
from tests.replay.moving.keep import Keep


def items(*more: Any, name: str = "items", price: Any = Integer, **columns: Column[Any]) -> MetaData:
    """The table as it was, but for what is given."""
    metadata = MetaData()
    called = columns.get("called", Column("name", String(10), nullable=False))
    TABLES["items"] = Table(
        name, metadata, Column("id", Integer, primary_key=True), called, Column("price", price), *more
    )
    return metadata


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    TABLES.clear()


def application(metadata: MetaData) -> Application:
    return Application("moving", actions=["tests.replay.moving"], models=metadata)


def verified(url: URL, sandbox: URL, change: Callable[[], MetaData]) -> list[Step]:
    """History is made upon the old tables, and verified with the new ones."""
    with open_bus(application(items()), url) as bus:
        for name, price in (("a", 1), ("b", 2), ("a", 3)):
            bus.execute("keep", {"name": name, "price": price})
    new = application(change())
    with Bus(new, url) as bus, Replayer(bus.journal, new, sandbox) as replayer:
        return list(replayer.verify())


def renamed(table: MetaData) -> MetaData:
    TABLES["items"].info["renamed_from"] = "items"
    return table


def renamed_column() -> MetaData:
    TABLES["name"] = "title"
    return items(called=Column("title", String(10), nullable=False, info={"renamed_from": "name"}))


MIGRATIONS: dict[str, Callable[[], MetaData]] = {
    "a column that may be NULL": lambda: items(Column("note", String)),
    "a column with a default of Python's": lambda: items(Column("kind", String, nullable=False, default="plain")),
    "a column with a default that is called": lambda: items(Column("kind", Integer, nullable=False, default=lambda: 7)),
    "a column with a default of the database's": lambda: items(
        Column("kind", String, nullable=False, server_default="x")
    ),
    "a column with the database's clock": lambda: items(
        Column("at", DateTime(timezone=True), server_default=func.now())
    ),
    "a column that is updated with Python's": lambda: items(Column("n", Integer, default=0, server_default="0")),
    "a computed column": lambda: items(Column("twice", Integer, Computed("price * 2"))),
    "a renamed column": renamed_column,
    "a renamed table": lambda: renamed(items(name="goods")),
    "a wider text": lambda: items(called=Column("name", String(200), nullable=False)),
    "a wider number": lambda: items(price=BigInteger),
    "an index": lambda: items(Index("by_price", "price")),
    "a constraint": lambda: items(CheckConstraint("price > 0")),
    "another table": lambda: _with_another(items()),
}


def _with_another(metadata: MetaData) -> MetaData:
    Table("others", metadata, Column("id", Integer, primary_key=True))
    return metadata


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_is_silent(url: URL, sandbox_url: URL, name: str) -> None:
    steps = verified(url, sandbox_url, MIGRATIONS[name])
    assert [(step.verdict, step.differences) for step in steps] == [("same", [])] * 3


@pytest.mark.parametrize(
    "kind",
    [Column("kind", String, default="plain"), Column("kind", String, server_default="plain"), Column("kind", String)],
)
def test_another_value_in_a_new_column_is_told(url: URL, sandbox_url: URL, kind: Column[Any]) -> None:
    def change() -> MetaData:
        TABLES["more"] = {"kind": "other"}
        return items(kind._copy())

    steps = verified(url, sandbox_url, change)
    assert [step.verdict for step in steps] == ["divergent", "divergent", "same"]
    assert [str(each) for each in steps[0].differences] == ["items[1].kind: recorded nothing, now other"]


def test_a_column_that_is_gone_is_silent(url: URL, sandbox_url: URL) -> None:
    with open_bus(application(items(Column("note", String, default="x"))), url) as bus:
        bus.execute("keep", {"name": "a", "price": 1})
        bus.execute("keep", {"name": "a", "price": 2})
        with Replayer(bus.journal, application(items()), sandbox_url) as replayer:
            assert [step.verdict for step in replayer.verify()] == ["same", "same"]


@pytest.mark.parametrize("new", [Arg(str), Arg(str, default="de"), Arg(list[str], default=list)])
def test_an_optional_argument_that_is_new_or_gone_is_silent(
    sqlite_url: URL, new: Arg, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Keep.arguments
    for before, after in ((old, {**old, "more": new}), ({**old, "more": new}, old)):
        url = sqlite_url.set(database=f"{sqlite_url.database}.{len(before)}")
        monkeypatch.setattr(Keep, "arguments", before)
        with open_bus(application(items()), url) as bus:
            bus.execute("keep", {"name": "a", "price": 1})
            monkeypatch.setattr(Keep, "arguments", after)
            with Replayer(bus.journal, application(items())) as replayer:
                assert [(step.verdict, step.differences) for step in replayer.verify()] == [("same", [])]


def test_an_upcast_gets_what_was_validated(sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is a number, though a text was submitted, as the command line does."""
    with open_bus(application(items()), sqlite_url) as bus:
        bus.execute("keep", {"name": "a", "price": "5"})
        monkeypatch.setattr(Keep, "version", 2)
        monkeypatch.setattr(
            Keep,
            "upcast",
            classmethod(lambda cls, arguments, version: {**arguments, "price": arguments["price"] * 100 // 100}),
        )
        with Replayer(bus.journal, application(items())) as replayer:
            assert [(step.verdict, step.differences) for step in replayer.verify()] == [("same", [])]
