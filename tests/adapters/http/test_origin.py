"""Pages of other sites, and names that an attacker lets point at us, run nothing in the name of whoever looks at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from actionbus import Bus
from actionbus.flask import ActionBus, provide_action_runner
from tests.adapters.conftest import Web

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""No database has a part in this."""
ID = "01a20fd2-903b-7a1d-bbbd-39d8807135d3"


def app_of(bus: Bus, authenticate: Callable[..., str | None] | None, **config: Any) -> Flask:
    app = Flask("test")
    app.config.update(config, ACTIONBUS_ELASTICSEARCH_URL="embedded")
    ActionBus(app, bus=bus, authenticate=authenticate)

    @app.post("/views/kits")
    @provide_action_runner
    def view() -> Any:
        return {"ran": bool(g.action_runner)}

    @app.get("/links/now")
    @provide_action_runner
    def link() -> Any:
        return {"id": g.action_runner.execute("create_kit", {"name": "a"}).action_id}

    @app.get("/links/later")
    @provide_action_runner
    def link_for_later() -> Any:
        return {"id": g.action_runner.execute_async("create_kit", {"name": "a"}).action_id}

    @app.get("/reads")
    @provide_action_runner
    def reads() -> Any:
        return {"actor": g.action_runner.actor}

    return app


def by_cookie(request: Any) -> str | None:
    actor: str | None = request.cookies.get("session")
    return actor


def by_basic(request: Any) -> str | None:
    return request.authorization.username if request.authorization else None


WAYS = {
    "a cookie": (by_cookie, {"Cookie": "session=ana"}),
    "a password that the browser remembers": (by_basic, {"Authorization": "Basic YW5hOng="}),
    "the network": (lambda request: "ana", {}),
    "nobody": (None, {}),
    "nobody, and a token of the page's own": (None, {"Authorization": "Bearer x"}),
}
ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8137"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:8137", "Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/actions/create_kit", "/actions/create_kit?countdown=1", "/views/kits"])
def test_a_page_of_another_site_runs_nothing(library_bus: Bus, way: str, path: str) -> None:
    authenticate, headers = WAYS[way]
    client = app_of(library_bus, authenticate).test_client(use_cookies=False)
    for elsewhere in ELSEWHERE:
        for sent in ({"json": {"name": "a"}}, {"data": b""}, {"data": b'{"name": "a"}', "content_type": "text/plain"}):
            response = client.post(path, headers=headers | elsewhere, **sent)
            assert response.status_code == 403, elsewhere
            assert response.get_json()["type"] == "urn:actionbus:cross-site"
    assert not list(library_bus.journal.read())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/links/now", "/links/later"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nor_by_an_image_or_a_link(library_bus: Bus, way: str, path: str, method: str) -> None:
    """A view may run an action whatever the method. What only reads is let through."""
    authenticate, headers = WAYS[way]
    client = app_of(library_bus, authenticate).test_client(use_cookies=False)
    for elsewhere in ELSEWHERE:
        assert client.open(path, method=method, headers=headers | elsewhere).status_code == 403, elsewhere
        assert client.get("/reads", headers=headers | elsewhere).status_code == 200
    assert not list(library_bus.journal.read())
    for ours in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        response = client.open(path, method=method, headers=headers | ours)
        assert response.status_code != 403 or authenticate is None, "the checkpoint lets nobody make kits"
    assert list(library_bus.journal.read())


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_body_without_a_type_is_no_json(library_bus: Bus, way: str) -> None:
    """A form of any site can send that. Who sends a token of his own is no form."""
    authenticate, headers = WAYS[way]
    client = app_of(library_bus, authenticate).test_client(use_cookies=False)
    assert client.post("/actions/create_kit", headers=headers).status_code == 415
    assert not list(library_bus.journal.read())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "HTTP://LOCALHOST"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://app.example.org", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://app.example.org"},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", WAYS)
def test_our_own_pages_named_ones_and_what_is_no_browser_run_actions(
    library_bus: Bus, way: str, headers: dict[str, str]
) -> None:
    authenticate, more = WAYS[way]
    app = app_of(library_bus, authenticate, ACTIONBUS_ALLOWED_ORIGINS="https://app.example.org, https://b.example")
    client = app.test_client(use_cookies=False)
    response = client.post("/actions/create_kit", json={"name": "a"}, headers=headers | more)
    assert response.status_code == (403 if authenticate is None else 200)
    if authenticate is None:
        assert response.get_json()["type"] == "urn:actionbus:denied", "the checkpoint, not the gate"
    assert client.post("/views/kits", headers=headers | more).status_code == 200


def test_a_token_of_the_senders_own_needs_no_origin(web: Web) -> None:
    """Another site's page can add it with our consent only, which nothing here gives."""
    ana = web.as_("ana")
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    response = ana.post("/actions/create_kit", json={"name": "a"}, headers=elsewhere)
    assert response.status_code == 200
    assert not any(name.lower().startswith("access-control") for name, _ in response.headers)
    asked = ana.options("/actions/create_kit", headers=elsewhere | {"Access-Control-Request-Method": "POST"})
    assert not any(name.lower().startswith("access-control") for name, _ in asked.headers)


PATHS = [
    ("POST", "/actions/create_kit"),
    ("GET", "/actions"),
    ("GET", f"/actions/{ID}"),
    ("GET", "/search/kits"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("POST", "/views/kits"),
]


def answers(client: FlaskClient, host: str) -> set[int]:
    return {client.open(path, method=method, headers={"Host": host}, json={}).status_code for method, path in PATHS}


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "notlocalhost",
        "a, localhost",
        "",
        "[",
        "localhost@evil.example",
    ],
)
def test_where_nobody_is_asked_a_name_that_is_none_of_ours_is_refused(library_bus: Bus, host: str) -> None:
    client = app_of(library_bus, None).test_client()
    assert answers(client, host) <= {421, 400}
    assert not list(library_bus.journal.read())


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "a.localhost", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3"]
)
def test_where_nobody_is_asked_localhost_and_addresses_are_ours(library_bus: Bus, host: str) -> None:
    assert 421 not in answers(app_of(library_bus, None).test_client(), host)


@pytest.mark.parametrize("authenticate", [None, by_cookie])
def test_allowed_hosts_are_those_that_are_named(library_bus: Bus, authenticate: Any) -> None:
    app = app_of(library_bus, authenticate, ACTIONBUS_ALLOWED_HOSTS=["shop.example", ".inside.example"])
    client = app.test_client()
    for host in ("shop.example", "SHOP.example:443", "a.inside.example", "10.0.0.1"):
        assert 421 not in answers(client, host)
    for host in ("evil.example", "localhost", "inside.example.evil", "shop.example.evil"):
        assert answers(client, host) == {421}
    assert client.get("/health/live", headers={"Host": "10.0.0.1"}).status_code == 200
    anywhere = app_of(library_bus, authenticate, ACTIONBUS_ALLOWED_HOSTS="*").test_client()
    assert 421 not in answers(anywhere, "any.example")
