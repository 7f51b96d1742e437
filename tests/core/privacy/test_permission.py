"""Who may erase is asked of the application's checkpoint, where it has one."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, PermissionDenied
from tests.core.privacy.clinic import models


class Guard:
    """Lets one actor erase."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: object) -> None:
        if (self.actor, permission) != ("officer", "history:erase"):
            raise PermissionDenied(f"{self.actor} may not {permission}")


def guard(actor: str | None) -> Guard:
    return Guard(actor)


def test_the_checkpoint_is_asked(url: URL) -> None:
    application = Application(
        "clinic", actions=["tests.core.privacy.actions"], models=models(), dependencies={"checkpoint": guard}
    )
    with Bus(application, url) as bus:
        bus.create()
        with bus.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO patients (id, name) VALUES (1, 'Ada')")
        for actor in ("eve", None):
            with pytest.raises(PermissionDenied, match="may not history:erase"):
                bus.erase(1, actor=actor)
            assert bus.history.state("patients").tables.popitem()[1][0]["name"] == "Ada"
        assert bus.erase(1, actor="officer").images
        assert bus.erase(1, operator=True).outcome.status == "succeeded"
