"""Sessions of PostgreSQL end at random moments under two projectors, and Elasticsearch with them: a fold in plain SQL."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from actionbus.adapters.local_elasticsearch.server import LocalServer
from tests.conftest import TORTURE
from tests.projections.conftest import MakeWorld
from tests.projections.notes.app import Notes
from tests.projections.running import start_projector
from tests.projections.scribbling import in_sql, scribble
from tests.projections.waiting import PATIENCE_S, eventually

KILLS = 50 if TORTURE else 3
THEIRS = "the projectors"


@pytest.mark.skipif(
    "ACTIONBUS_TEST_ELASTICSEARCH_URL" in os.environ, reason="a server of one's own is needed to kill it"
)
def test_sessions_and_elasticsearch_end_at_random_moments(
    make_real_world: MakeWorld, elasticsearch_server: LocalServer
) -> None:
    world = make_real_world(Notes)
    chance = random.Random(7)
    theirs = replace(world, url=world.url.update_query_dict({"application_name": THEIRS}))
    projectors = [start_projector(theirs, "7"), start_projector(theirs, "1000")]
    engine = create_engine(world.url, poolclass=NullPool)

    def ended() -> int:
        sql = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = :theirs "
            "AND datname = current_database() AND random() < 0.7"
        )
        with engine.connect() as connection:
            return int(connection.execute(sql, {"theirs": THEIRS}).scalar_one())

    try:
        world.operations.wait_for("notes", world.put("first"), PATIENCE_S)
        for number in range(KILLS):
            last = scribble(world.bus, chance, chance.randrange(5, 60))
            eventually(ended)
            if number % 7 == 2:
                elasticsearch_server.kill()
                last = scribble(world.bus, chance, 10)
                ended()
                elasticsearch_server.start()
            if number % 5 == 4:
                world.operations.wait_for("notes", last, PATIENCE_S)
                assert world.documents() == in_sql(world)
        last = scribble(world.bus, chance, 20)
        world.operations.wait_for("notes", last, PATIENCE_S)
    finally:
        for process in projectors:
            process.kill()
            process.wait()
        engine.dispose()
    assert world.documents() == in_sql(world)
    (row,) = world.operations._catalogue.ledger.checkpoints("notes")
    assert row.alarm is None
    world.catch_up()
