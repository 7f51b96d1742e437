"""Who may look: the door of `actionbus inspect`, permissions and masks inside of an application, off in production."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from actionbus import Application, Bus, Record
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from actionbus.adapters.inspector.pages import ROUTES
from actionbus.flask import ActionBus
from actionbus.inspector import inspector_app
from actionbus.projections import Projection, ProjectionStopped, Projector, on
from tests.adapters.inspector.inn.actions.reprice import Reprice
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.adapters.inspector.looking import PAGES, mounted, who

SECRETS = ("Dora is allergic", "allergic")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    folder: Path = tmp_path_factory.mktemp("inn")
    with Bus(inn, f"sqlite:///{folder / 'inn.db'}") as bus:
        bus.create()
        tell(bus)
        yield bus


def test_the_token_opens_once_and_the_cookie_is_of_one_process(told: Bus) -> None:
    door = Door(told)
    app = app_behind(door, told, "embedded")
    stranger, first, second = (app.test_client() for _ in range(3))
    for path in PAGES.values():
        assert stranger.get(path).status_code == 401
    assert first.get("/enter?token=wrong").status_code == 401
    entered = first.get(f"/enter?token={door.token}")
    assert entered.status_code == 303
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert first.get("/").status_code == 200
    assert second.get(f"/enter?token={door.token}").status_code == 401, "it opens once"
    assert first.get("/").status_code == 200, "whoever is in stays in"
    other = app_behind(Door(told), told, "embedded").test_client()
    other.set_cookie("actionbus_inspector_80", cookie.partition("=")[2].partition(";")[0])
    assert other.get("/").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""])
def test_a_name_that_points_here_is_refused(told: Bus, host: str) -> None:
    door = Door(told)
    client = app_behind(door, told, "embedded").test_client()
    assert client.get(f"/enter?token={door.token}", headers={"Host": host}).status_code == 421
    assert client.get(f"/enter?token={door.token}", headers={"Host": "localhost:8123"}).status_code == 303
    assert client.get("/", headers={"Host": host}).status_code == 421


def test_production_shows_nothing_unless_it_is_switched_on(told: Bus) -> None:
    reader = {"X-Actor": "manager"}
    assert mounted(told).get("/inspector/", headers=reader).status_code == 404
    assert mounted(told).get("/inspector/static/inspector.css").status_code == 404
    assert mounted(told, ACTIONBUS_INSPECTOR=True).get("/inspector/", headers=reader).status_code == 200
    assert mounted(told, DEBUG=True).get("/inspector/", headers=reader).status_code == 200
    assert mounted(told, DEBUG=True, ACTIONBUS_INSPECTOR=False).get("/inspector/", headers=reader).status_code == 404


@pytest.mark.parametrize("rule", ROUTES)
def test_who_may_not_read_the_journal_gets_nothing(told: Bus, rule: str) -> None:
    client = mounted(told, ACTIONBUS_INSPECTOR=True)
    path = "/inspector" + PAGES[rule]
    assert client.get(path).status_code == 401
    refused = client.get(path, headers={"X-Actor": "guest"})
    assert refused.status_code in (403, 404) or rule == "/go"
    for each in ("Dora", "import_prices", "channel-import", "720", "reservations r-dora"):
        assert each not in refused.text


@pytest.mark.parametrize("rule", ROUTES)
def test_masks_are_by_role(told: Bus, rule: str) -> None:
    client = mounted(told, ACTIONBUS_INSPECTOR=True)
    seen = {
        actor: client.get("/inspector" + PAGES[rule], headers={"X-Actor": actor}, follow_redirects=True)
        for actor in ("manager", "clerk", "auditor")
    }
    assert seen["manager"].status_code == 200
    assert "allergic" not in seen["clerk"].text, "personal values take another permission"
    for each in ("allergic", "Cleo", "Fay", "single"):
        assert each not in seen["auditor"].text, "no value without payloads"
    if rule in ("/table", "/diff"):
        assert "allergic" in seen["manager"].text
        assert "Cleo" in seen["clerk"].text
    if rule in ("/row", "/origin"):
        assert seen["auditor"].status_code == 403


def test_it_mounts_anywhere(told: Bus) -> None:
    inspector = inspector_app(told, authenticate=who, elasticsearch="embedded")
    client = Client(DispatcherMiddleware(Flask("front"), {"/deep/b low": inspector}))
    page = client.get("/deep/b%20low/?limit=3", headers={"X-Actor": "manager"})
    assert page.status_code == 200
    found = re.findall(r'(?:href|src|action)="([^"#]+)"', page.text)
    assert len(found) > 10
    assert [each for each in found if not each.startswith("/deep/b%20low/")] == []
    for each in sorted({each.replace("&amp;", "&") for each in found}):
        assert client.get(each, headers={"X-Actor": "manager"}).status_code in (200, 303), each
    assert client.get("/deep/b%20low/actions/2").status_code == 401


def test_an_application_without_a_checkpoint_shows_nothing(sqlite_url: Any) -> None:
    with Bus(Application("bare", actions=[]), sqlite_url) as bus:
        bus.create()
        app = Flask("front")
        app.config["ACTIONBUS_INSPECTOR"] = True
        ActionBus(app, bus=bus, inspector=True)
        assert app.test_client().get("/inspector/").status_code == 403


class Wary(Projection):
    """Cannot take in what it is given, and says so with what it was given."""

    mappings = {"properties": {}}

    @on("reserve", key="id")
    def reserved(self, document: dict[str, Any] | None, record: Record) -> dict[str, Any]:
        """Never."""
        raise ValueError(f"{record.arguments['guest']}: {record.arguments['note']}")


def test_errors_of_queue_and_projections_are_values_too(sqlite_url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any) -> Any:
        raise ValueError(f"no reservation of Cleo at {self.args.price}")

    monkeypatch.setattr(Reprice, "execute", refused)
    application = Application(
        "inn",
        actions=["tests.adapters.inspector.inn.actions"],
        models=inn.models,
        dependencies=inn.dependencies,
        projections=[Wary],
    )
    with Bus(application, sqlite_url) as bus:
        bus.create()
        bus.execute("reserve", {"id": "r-cleo", "guest": "Cleo", "note": "Dora is allergic"}, actor="clerk")
        failed, left = (bus.runner("clerk").execute_async("reprice", {"id": "r", "price": "91"}) for _ in range(2))
        with pytest.raises(ValueError, match="Cleo"):
            bus.run_queued(failed.action_id)
        with bus.backend.connection() as connection:
            run = bus.services.claims.take(connection, "worker", 60, only=left.action_id)
        assert run is not None
        bus.runs.hand_back(run, 60.0, "waiting for Cleo")
        with pytest.raises(ProjectionStopped, match="Dora is allergic"):
            Projector(bus, EmbeddedStore(bus.engine)).catch_up()
        client = mounted(bus, ACTIONBUS_INSPECTOR=True)

        def seen(path: str, actor: str) -> str:
            found: str = client.get(path, headers={"X-Actor": actor}).text
            return found

        run_path = f"/actions/{left.action_id}"
        assert seen("/inspector/queue", "clerk").count("Cleo") == 2
        assert "waiting for Cleo" in seen(run_path, "manager")
        assert "allergic" in seen("/inspector/projections", "manager")
        for path in ("/inspector/queue", run_path, "/inspector/projections"):
            page = seen(path, "auditor")
            assert "masked" in page
            assert "Cleo" not in page
            assert "allergic" not in page
        assert "allergic" not in seen("/inspector/projections", "clerk"), "nobody can tell what of an error is personal"
