"""Who may leave a record out of a projection: operators, and who the checkpoint lets; the journal says who tried."""

from __future__ import annotations

from typing import Any

import pytest

from actionbus import Application, Bus, ConfigurationError, Misuse, PermissionDenied
from actionbus.core.declare.registry import Registry
from actionbus.projections.actions.skip_record import SkipRecord
from tests.projections.conftest import World
from tests.projections.notes.app import Notes, make_application
from tests.projections.skipping import stopped_at


def test_without_a_checkpoint_nobody_but_an_operator_may_and_the_journal_says_who_tried(world: World) -> None:
    position = stopped_at(world)
    about = {"projection": "notes", "of_version": 1, "position": position}
    with pytest.raises(PermissionDenied, match="projections:operate"):
        world.bus.execute("skip_record", about, actor="bob")
    denied = list(world.bus.journal.read(action="skip_record", kind="outcome"))
    assert [(record.actor, record.status) for record in denied] == [("bob", "denied")]
    assert world.operations.skip("notes", actor="op").result == about
    world.catch_up("notes")
    assert set(world.documents()) == {"a", "b"}


class Gate:
    """A checkpoint that lets one actor do one thing."""

    def __init__(self, actor: str | None) -> None:
        self._actor = actor

    def require(self, permission: str, _arguments: Any) -> None:
        """Raise PermissionDenied unless it is that."""
        if (self._actor, permission) != ("op", "projections:operate"):
            raise PermissionDenied(f"{self._actor} may not {permission}")


def gate(actor: str | None) -> Gate:
    return Gate(actor)


def guarded(world: World) -> Bus:
    plain = world.bus.application
    application = Application(
        "notes", actions=list(plain.actions), dependencies={"checkpoint": gate}, projections=plain.projections
    )
    return Bus(application, world.url)


def test_where_there_is_a_checkpoint_it_decides(world: World) -> None:
    position = stopped_at(world)
    about = {"projection": "notes", "of_version": 1, "position": position}
    with guarded(world) as bus:
        with pytest.raises(PermissionDenied, match="bob may not projections:operate"):
            bus.execute("skip_record", about, actor="bob")
        assert bus.execute("skip_record", about, actor="op").status == "succeeded"
    world.catch_up("notes")
    assert set(world.documents()) == {"a", "b"}


def test_no_other_action_takes_an_operators_decision() -> None:
    from actionbus.core.storage.ddl import create

    application = Application(
        "notes", actions=["tests.projections.notes.actions", "tests.projections.meddling"], projections=[Notes]
    )
    with Bus(application, "sqlite://") as bus:
        with bus.engine.begin() as connection:
            create(connection)
        with pytest.raises(Misuse, match="skip_record is an operator's decision"):
            bus.runner("op", operator=True).execute("meddle", {})


def test_what_is_for_operators_is_no_part_of_the_catalogue_and_names_a_permission(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry(make_application())
    assert registry.get("skip_record").for_operators
    hidden = {action.name for action in registry} - {action.name for action in registry.everyday()}
    assert hidden == {"skip_record", "pause_feeding", "resume_feeding", "move_subscription"}
    assert {registry.get(name).handler.permission for name in hidden} == {"projections:operate"}
    monkeypatch.setattr(SkipRecord, "permission", None)
    with pytest.raises(ConfigurationError, match="must name the `permission` that it takes"):
        Registry(make_application())
