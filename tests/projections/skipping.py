"""A projection that stopped at a record, and deciding what becomes of it."""

from __future__ import annotations

import pytest

from actionbus.projections import ProjectionStopped
from tests.projections.conftest import World


def stopped_at(world: World, note: str = "bad") -> int:
    """A projection that stopped at a record, with healthy ones around it; the record's position."""
    world.put("a", "fine")
    position = world.put(note, "poison")
    world.put("b", "fine")
    with pytest.raises(ProjectionStopped):
        world.catch_up("notes")
    return position
