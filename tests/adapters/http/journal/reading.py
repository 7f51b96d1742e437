"""The shop behind its API, with a checkpoint that grants each of the readers one permission more than the last."""

from __future__ import annotations

from typing import Any

from flask import Flask
from sqlalchemy.engine import URL

from actionbus import Bus, PermissionDenied, outside
from actionbus.flask import ActionBus
from tests.shop.app import Mailer, make_application, repo

GRANTED = {
    "clerk": set[str](),
    "auditor": {"journal:read"},
    "reader": {"journal:read", "journal:payloads"},
    "officer": {"journal:read", "journal:payloads", "journal:personal"},
}


class Roles:
    """Everybody may act; who may read is in the table above, and `ann` reads of herself alone."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        """Raise PermissionDenied."""
        if not permission.startswith("journal:"):
            return
        if self.actor == "ann" and arguments.actor == "ann":
            return
        if permission not in GRANTED.get(self.actor or "", ()):
            raise PermissionDenied(f"{self.actor} may not {permission}")


def roles(actor: str | None) -> Roles:
    """Provider of `checkpoint`."""
    return Roles(actor)


class Web:
    """One bus and its API; `get` as somebody."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.app = Flask("journal")
        self.app.config["ACTIONBUS_ELASTICSEARCH_URL"] = "embedded"
        ActionBus(self.app, bus=bus, authenticate=lambda request: request.headers.get("X-Actor"))

    def get(self, path: str, who: str = "officer", expected: int = 200, **query: Any) -> Any:
        """The answer's JSON, which must come with this status."""
        more = {"query_string": query} if query else {}
        response = self.app.test_client().get(path, headers={"X-Actor": who}, **more)
        assert response.status_code == expected, response.text
        if expected != 200:
            assert response.mimetype == "application/problem+json", response.text
        return response.get_json()


def shop(url: URL, **dependencies: Any) -> Web:
    """The shop on a prepared database."""
    given = {"repo": repo, "checkpoint": roles, "mailer": outside(Mailer), **dependencies}
    return Web(Bus(make_application(dependencies={n: each for n, each in given.items() if each is not None}), url))
