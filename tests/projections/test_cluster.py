"""Three nodes of which the one with the primary is killed: no outage, no alarm, the documents of a fold in plain SQL.

Only in the long form (ACTIONBUS_TORTURE): see `collect_ignore` in conftest.py.
"""

from __future__ import annotations

import random

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.projections import Projections
from tests.other_servers.cluster import cluster
from tests.projections.conftest import MakeWorld, World
from tests.projections.notes.app import Notes
from tests.projections.running import running
from tests.projections.scribbling import in_sql, scribble
from tests.projections.waiting import PATIENCE_S, eventually


@pytest.mark.timeout(1800)
def test_the_node_of_the_primary_is_killed_under_a_projector_and_a_rebuild(make_real_world: MakeWorld) -> None:
    made = make_real_world(Notes)
    chance = random.Random(11)
    with cluster() as nodes:
        store = ElasticsearchStore(nodes.url, timeout=10)
        world = World(made.url, made.bus, store, nodes.url, Projections(made.bus, store))
        with running(world):
            last = world.put("first")
            for number in range(6):
                world.operations.wait_for("notes", last, PATIENCE_S * 2)
                if number % 2:
                    world.operations.rebuild("notes")  # which waits for the copies
                    world.operations.prune()
                index = str(store.aliased("notes"))
                found = nodes.client.search_shards(index=index).body
                (primary,) = (copy for group in found["shards"] for copy in group if copy["primary"])
                name = found["nodes"][primary["node"]]["name"]
                scribble(world.bus, chance, 40)
                nodes.kill(name)
                last = scribble(world.bus, chance, 60)
                world.operations.wait_for("notes", last, PATIENCE_S * 2)
                assert world.documents() == in_sql(world)
                nodes.start(name)
                eventually(nodes.is_whole, PATIENCE_S * 3)
        assert world.documents() == in_sql(world)
        assert all(row.alarm is None for row in world.operations._catalogue.ledger.checkpoints("notes"))
        store.close()
