"""The business transaction that is measured, with a journal and without; and where it is run."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, event, insert, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from actionbus import Application, Bus
from actionbus.core.storage.table import journal_table
from tests.servers import Server

ROWS = 1_000
Step = Callable[[int], object]


class Contestant(NamedTuple):
    """Somebody who does the business transaction."""

    step: Step
    before_round: Callable[[int], object] = lambda count: None
    """Called with the number of steps that are to come; not timed."""


class Base(DeclarativeBase):
    """The benchmark's table."""


class Counter(Base):
    """A row that is read and updated."""

    __tablename__ = "counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    name: Mapped[str]


class PlainCounter(Base):
    """The same where nothing is recorded: what an application without us would have."""

    __tablename__ = "plain_counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    name: Mapped[str]


application = Application("bench", actions=["benchmarks.actions"], models=Base.metadata, unrecorded=["plain_counters"])


_OUTCOME = {
    "kind": "outcome",
    "status": "succeeded",
    "action": "count_up",
    "correlation_id": "c",
    "actor": "bench",
    "format": 1,
}


def append_outcomes(connection: Connection, told: Sequence[Mapping[str, Any]]) -> None:
    """Put outcomes into the journal, past the gateway; what each has besides, the same columns all of them."""
    rows = [{**_OUTCOME, "action_id": uuid4(), **each} for each in told]
    columns = [column for column in journal_table().c if column.name in rows[0]]
    connection.execute(insert(journal_table()).inline().values(dict.fromkeys(columns)), rows)


def prepare(url: URL) -> None:
    """Tables and rows in an empty database."""
    with Bus(application, url) as bus:
        bus.create()
        with Session(bus.engine) as session, session.begin():
            for kind in (Counter, PlainCounter):
                session.add_all(kind(id=number, n=0, name=f"counter {number}") for number in range(ROWS))


def plain_engine(url: URL) -> Engine:
    """An engine as an application without us would have it; on SQLite in WAL, like ours."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA journal_mode=WAL"))
    return engine


def plain(url: URL) -> Contestant:
    """Read a row and update it, in plain SQLAlchemy ORM."""
    engine = plain_engine(url)

    def step(number: int) -> None:
        with Session(engine) as session:
            counter = session.get_one(PlainCounter, number % ROWS)
            counter.n += 1
            session.commit()

    return Contestant(step)


def journaled(url: URL) -> Contestant:
    """The same as an action: validated, with two records and an image of the row."""
    runner = Bus(application, url).runner("bench")
    return Contestant(lambda number: runner.execute("count_up", {"id": number % ROWS, "by": 1}))


@contextmanager
def databases(*, are_empty: bool = False) -> Iterator[dict[str, URL]]:
    """A database of each kind, prepared if it is not to be empty."""
    server = Server("fsync = on\n")
    with tempfile.TemporaryDirectory() as folder:
        found = {"postgresql": server.database(), "sqlite": make_url(f"sqlite:///{Path(folder) / 'bench.db'}")}
        for url in () if are_empty else found.values():
            prepare(url)
        yield found
    server.close()


def describe(urls: dict[str, URL]) -> str:
    """Hardware and settings, for whoever reads the figures."""
    engine = create_engine(urls["postgresql"])
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
    with engine.connect() as connection:
        told = [f"{name} {connection.execute(text(f'SHOW {name}')).scalar()}" for name in names]
    engine.dispose()
    lite = plain_engine(urls["sqlite"])
    with lite.connect() as connection:
        told.append(f"sqlite synchronous {connection.execute(text('PRAGMA synchronous')).scalar()} (2 is FULL)")
    lite.dispose()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {', '.join(told)}"
