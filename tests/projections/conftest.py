"""Fixtures of projections: a real Elasticsearch, both stores, and the notes on a database and a store that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters import database
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.projections import Projection, Projections, Projector
from actionbus.projections.store import Store
from tests.conftest import TORTURE
from tests.copies import copied
from tests.projections.notes.app import make_application
from tests.turns import turn

collect_ignore = [] if TORTURE else ["test_cluster.py"]
"""Three nodes take minutes: `make torture`."""


@dataclass
class World:
    """The notes, bound to a database and a store."""

    url: URL
    bus: Bus
    store: Store
    store_at: str
    operations: Projections

    def put(self, note: str, text: str = "", number: int = 0, *shelves: str) -> int:
        """Write a note; the position of its outcome."""
        given = {"note": note, "text": text, "number": number, "shelves": list(shelves)}
        return self.bus.execute("put_note", given, actor="ana").position

    def drop(self, note: str) -> int:
        """Drop a note."""
        return self.bus.execute("drop_note", {"note": note}, actor="ana").position

    def catch_up(self, *names: str) -> dict[str, int]:
        """Absorb all there is."""
        return Projector(self.bus, self.store, names or None).catch_up()

    def documents(self, name: str = "notes") -> dict[str, dict[str, object]]:
        """What readers of a projection see."""
        index = self.store.aliased(name)
        assert index is not None
        self.store.refresh(index)
        return {key: stored.document or {} for key, stored in self.store.scan(index)}


MakeWorld = Callable[..., World]
PAIRS = ["sqlite+embedded", "postgresql+embedded", "postgresql+elasticsearch"]


def on_worlds_in_turn(names: str | tuple[str, ...], values: Iterable[Any]) -> pytest.MarkDecorator:
    """Each of `values` on one pair of database and store, in turn; on all in `make torture`."""
    found = [value if isinstance(names, tuple) else (value,) for value in values]
    turns = [(PAIRS[turn(at, 3)], *found[at % len(found)]) for at in range(max(len(found), 3))]
    rows = [(pair, *value) for value in found for pair in PAIRS] if TORTURE else turns
    given = (names,) if isinstance(names, str) else names
    return pytest.mark.parametrize(("make_world", *given), rows, indirect=["make_world"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test a world on Elasticsearch and one embedded in either database, in turn; in `make torture` on both."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "make_world" in metafunc.fixturenames and not any("make_world" in mark.args[0] for mark in marks):
        *embedded, elasticsearch = PAIRS
        in_turn = [embedded[crc32(metafunc.function.__name__.encode()) % len(embedded)], elasticsearch]
        metafunc.parametrize("make_world", PAIRS if TORTURE else in_turn, indirect=True)


@pytest.fixture
def make_world(request: pytest.FixtureRequest) -> Iterator[MakeWorld]:
    """Makes worlds on one database and store, each with a bus of its own."""
    yield from worlds(request, *request.param.split("+"))


@pytest.fixture
def make_real_world(request: pytest.FixtureRequest) -> Iterator[MakeWorld]:
    """The same on PostgreSQL and Elasticsearch alone."""
    yield from worlds(request, "postgresql", "elasticsearch")


def worlds(request: pytest.FixtureRequest, database_name: str, store_name: str) -> Iterator[MakeWorld]:
    """Makers of worlds, cleared away afterwards."""
    url: URL = request.getfixturevalue("sqlite_url" if database_name == "sqlite" else "postgres_url")
    where = "embedded" if store_name == "embedded" else str(request.getfixturevalue("elasticsearch_url"))
    if store_name != "embedded":
        request.getfixturevalue("elasticsearch_store")
    made: list[World] = []

    def make(*projections: type[Projection]) -> World:
        if made or not copied(url, "notes", create_notes):
            create_notes(url)
        bus = Bus(make_application(*projections), url)
        store: Store = EmbeddedStore(bus.engine) if where == "embedded" else ElasticsearchStore(where, timeout=10)
        made.append(World(url, bus, store, where, Projections(bus, store)))
        return made[-1]

    yield make
    for world in made:
        world.store.close()
        world.bus.close()


def create_notes(url: URL) -> None:
    """A journal, as migrations make it."""
    with Bus(make_application(), url) as bus:
        database.upgrade(bus.engine)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """The notes on every pair of database and store in turn."""
    return make_world()


@pytest.fixture(params=["embedded on sqlite", "embedded on postgresql", "elasticsearch"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every store in turn, empty."""
    if request.param == "elasticsearch":
        yield request.getfixturevalue("elasticsearch_store")
        return
    is_sqlite = request.param.endswith("sqlite")
    url = f"sqlite:///{tmp_path / 'documents.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    yield EmbeddedStore(engine)
    engine.dispose()
