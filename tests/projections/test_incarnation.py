"""A copy of a database feeds no index of the original; a failover, a restart and an upgrade in place go on feeding it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.projections import NeedsRebuild, NotOurs, Projections, ProjectionStopped
from actionbus.projections.errors import ForeignWrites
from actionbus.projections.ledger import Ledger
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes, expected_notes, make_application
from tests.servers import Server

Copied = Callable[[World], URL]


def fed(make_world: MakeWorld) -> World:
    """Notes in an index, and nobody connected to their database."""
    world = make_world(Notes)
    for number in range(3):
        world.put(f"n{number}", "production")
    world.catch_up()
    return world


@pytest.fixture
def by_template(server: Server) -> Iterator[Copied]:
    """Copies a database within its server."""
    made: list[URL] = []

    def copied(world: World) -> URL:
        world.bus.engine.dispose()
        world.bus.backend.renew_pool()
        made.append(server.copy_of(world.url))
        return made[-1]

    yield copied
    for each in made:
        server.drop(each)


@pytest.fixture
def by_dump(server: Server) -> Iterator[Copied]:
    """Copies a database by a dump, as into a server of its own."""
    made: list[URL] = []

    def copied(world: World) -> URL:
        made.append(server.database())
        programs = [server.program(name) for name in ("pg_dump", "psql")]
        assert all(programs), "the server comes with them"
        where = [
            url.set(drivername="postgresql").render_as_string(hide_password=False) for url in (world.url, made[-1])
        ]
        dump = subprocess.run([str(programs[0]), where[0]], check=True, capture_output=True)
        subprocess.run(
            [str(programs[1]), "-q", "-v", "ON_ERROR_STOP=1", where[1]],
            input=dump.stdout,
            check=True,
            capture_output=True,
        )
        return made[-1]

    yield copied
    for each in made:
        server.drop(each)


@contextmanager
def at(url: URL, where: str, prefix: str = "") -> Iterator[World]:
    """The notes on a database that was made elsewhere."""
    bus = Bus(make_application(Notes), url)
    store = ElasticsearchStore(where, timeout=10, prefix=prefix)
    yield World(url, bus, store, where, Projections(bus, store))
    store.close()
    bus.close()


@pytest.mark.parametrize("how", ["by_template", "by_dump"])
def test_a_copied_database_writes_nothing_into_the_index_of_the_original(
    make_real_world: MakeWorld, request: pytest.FixtureRequest, how: str
) -> None:
    copied: Copied = request.getfixturevalue(how)
    world = fed(make_real_world)
    kept = world.operations.rebuild("notes") and world.store.indices("notes")
    unfinished = world.operations._catalogue.create(Notes, 1)
    world.operations._catalogue.create_index(Notes, unfinished, loading=True)
    url = copied(world)
    world.operations._catalogue.remove(Notes, unfinished)
    with at(url, world.store_at) as staging:
        for number in range(5):
            staging.put("n1", f"staging {number}")
        with pytest.raises(
            NeedsRebuild, match="not of this database: this database is a copy of the one that feeds it"
        ):
            staging.catch_up()
        (told,) = (each for each in staging.operations.status() if each.role == "serving")
        assert told.state == "stopped"
        assert "ACTIONBUS_ELASTICSEARCH_PREFIX" in told.detail["message"]
        with pytest.raises(NotOurs):
            staging.operations.rebuild("notes")
        with pytest.raises(ProjectionStopped):
            staging.operations.rollback("notes")
        assert staging.operations.prune(timedelta(0)) == {"indices": 0, "tombstones": 0}
        assert staging.store.indices("notes") == kept
        world.put("n1", "production goes on")
        world.catch_up()
        assert world.documents() == expected_notes(world.bus)
        with at(url, world.store_at, "staging-") as apart:
            apart.operations.rebuild("notes")
            apart.catch_up()
            assert apart.documents() == expected_notes(apart.bus)
        assert world.documents() == expected_notes(world.bus)
        # An heir takes over, and who was before it finds out.
        staging.operations.rebuild("notes", take_over=True)
        assert staging.documents() == expected_notes(staging.bus)
        world.put("n2", "who was before")
        with pytest.raises(NotOurs):
            world.operations.rebuild("notes")
        assert staging.documents() == expected_notes(staging.bus)


def test_two_forks_that_cannot_be_told_apart_both_find_out_by_the_conflict(
    make_real_world: MakeWorld, by_template: Copied
) -> None:
    """As after a restore to a point in time beside the original. Here the copy is made to believe that it is it."""
    world = fed(make_real_world)
    url = by_template(world)
    with at(url, world.store_at) as fork:
        with fork.bus.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE actionbus_incarnation SET database = (SELECT oid::bigint FROM pg_database "
                    "WHERE datname = current_database())"
                )
            )
        fork.put("n1", "the fork's")
        fork.put("n3", "the fork's")
        fork.catch_up()
        world.put("n0", "the original's")
        world.put("n3", "the original's")
        for _ in range(2):
            with pytest.raises(NeedsRebuild):
                world.catch_up()
        # The greatest version is known to the original as well by then: only the alarm keeps it from going on.
        world.put("n4", "the original's")
        with pytest.raises(NeedsRebuild):
            world.catch_up()
        assert world.operations.status()[0].state == "stopped"
        world.operations.rebuild("notes")
        assert world.documents() == expected_notes(world.bus)


def test_a_write_of_somebody_else_between_our_reading_and_our_writing_is_an_alarm_that_stays(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fed(make_real_world)
    original = ElasticsearchStore.write_many
    position = world.put("n1", "ours")

    def after_another(self: ElasticsearchStore, index: str, writes: list[object]) -> object:
        monkeypatch.undo()
        self.client.index(
            index=index,
            id="n1",
            version=position,
            version_type="external",
            document={"text": "theirs", "actionbus": {"position": position}},
        )
        return original(self, index, writes)  # type: ignore[arg-type]

    monkeypatch.setattr(ElasticsearchStore, "write_many", after_another)
    with pytest.raises(ForeignWrites, match="somebody else writes to"):
        world.catch_up()
    for _ in range(2):
        world.operations.retry("notes")
        with pytest.raises(NeedsRebuild, match="somebody else writes to"):
            world.catch_up()
    world.operations.rebuild("notes")
    assert world.documents() == expected_notes(world.bus)


def test_a_request_that_arrived_though_it_was_not_answered_is_no_alarm(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actionbus.projections.errors import StoreUnavailable
    from tests.projections.running import running
    from tests.projections.waiting import PATIENCE_S

    world = fed(make_real_world)
    original = ElasticsearchStore.write_many
    calls: list[int] = []

    def answered_late(self: ElasticsearchStore, index: str, writes: list[object]) -> object:
        calls.append(len(calls))
        if len(calls) > 2:
            return original(self, index, writes)  # type: ignore[arg-type]
        original(self, index, writes)  # type: ignore[arg-type]
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(ElasticsearchStore, "write_many", answered_late)
    with running(world):
        for number in range(4):
            last = world.put("n1", f"changed {number}")
        world.operations.wait_for("notes", last, PATIENCE_S)
    assert calls
    assert world.documents() == expected_notes(world.bus)


# --- the same database


def incarnation_of(bus: Bus) -> str | None:
    return Ledger(bus.backend).incarnation.read()


def test_a_standby_that_takes_over_is_the_same(make_real_world: MakeWorld, server: Server) -> None:
    world = fed(make_real_world)
    before = incarnation_of(world.bus)
    assert before
    with server.standby() as standby:
        url = standby.set(database=world.url.database)
        with at(url, world.store_at) as promoted:
            assert incarnation_of(promoted.bus) == before
            with promoted.bus.engine.begin() as connection:
                assert connection.execute(text("SELECT pg_promote()")).scalar_one()
            promoted.put("n1", "after the failover")
            promoted.catch_up()
            assert incarnation_of(promoted.bus) == before
            assert promoted.documents() == expected_notes(promoted.bus)


def test_neither_a_restart_nor_maintenance_nor_an_upgrade_in_place_is_taken_for_a_copy(
    make_real_world: MakeWorld, server: Server
) -> None:
    world = fed(make_real_world)
    before = incarnation_of(world.bus)
    with world.bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (FULL, FREEZE) actionbus_incarnation"))
    assert incarnation_of(world.bus) == before
    # What pg_upgrade leaves behind: the same rows, oids and transaction ids in a cluster of another identifier.
    with world.bus.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE actionbus_incarnation SET cluster = '1', major = major - 1, "
                "xid = (pg_current_xact_id()::text::numeric % 4294967296)::bigint"
            )
        )
    assert incarnation_of(world.bus) == before
    assert Ledger(world.bus.backend).incarnation.have() == before
    with world.bus.engine.connect() as connection:
        assert connection.execute(text("SELECT cluster <> '1' FROM actionbus_incarnation")).scalar_one()
    world.put("n1", "afterwards")
    world.catch_up()
    assert world.documents() == expected_notes(world.bus)


def test_of_the_same_major_version_another_cluster_is_no_upgrade(make_real_world: MakeWorld) -> None:
    world = fed(make_real_world)
    with world.bus.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE actionbus_incarnation SET cluster = '1', "
                "xid = (pg_current_xact_id()::text::numeric % 4294967296)::bigint"
            )
        )
    assert incarnation_of(world.bus) is None
