"""Whoever feeds and asks makes projectors and operations again and again: their SQL is compiled once for an engine."""

from __future__ import annotations

from actionbus import Bus
from tests.projections.conftest import World
from tests.projections.notes.app import make_application


def feed_and_ask(world: World) -> None:
    world.put("a", "text")
    world.catch_up()
    world.operations.status()
    assert world.bus.journal.identity()
    assert world.documents()
    with Bus(make_application(), world.bus.engine) as other:
        assert other.journal.identity()


def compiled(world: World) -> list[int]:
    """How many statements each of the bus's engines has compiled."""
    return [len(engine._compiled_cache or ()) for engine in (world.bus.engine, world.bus.backend.gateway)]


def test_nothing_is_compiled_again_for_another_projector_or_another_bus(world: World) -> None:
    for _ in range(2):
        feed_and_ask(world)
    before = compiled(world)
    assert min(before) > 0
    feed_and_ask(world)
    assert compiled(world) == before
