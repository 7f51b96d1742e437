"""The HTTP API: what callers get, hostile ones too; Flask views; authentication; health, metrics and logs."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask, g, request
from flask.testing import FlaskClient
from sqlalchemy import text, update
from sqlalchemy.engine import URL

from actionbus import ActionBusError, Bus, Misuse
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base, TokenRow
from actionbus.adapters.library.tokens import authenticator, issue
from actionbus.adapters.logs import formatter
from actionbus.adapters.wiring import bus_for
from actionbus.flask import ActionBus, current_bus, provide_action_runner
from actionbus.projections import Projections, Projector
from actionbus.testing import HeldQueue
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """The reference application on a new database, its documents in the database too."""
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    with bus_for(library, url) as found:
        found.journal.create()
        Base.metadata.create_all(found.engine)
        found.services.queue = HeldQueue()
        yield found


@pytest.fixture
def app(bus: Bus) -> Flask:
    app = Flask("test")
    app.config["ACTIONBUS_ELASTICSEARCH_URL"] = "embedded"
    ActionBus(app, bus=bus, authenticate=authenticator(bus))

    @app.post("/kits")
    @provide_action_runner
    def create_kit() -> Any:
        return g.action_runner.execute("create_kit", request.get_json()).result

    @app.post("/broken")
    @provide_action_runner
    def keep() -> Any:
        app.extensions["kept"] = g.action_runner
        return {}

    return app


class Client:
    """A client with a token."""

    def __init__(self, app: Flask, token: str | None) -> None:
        self.http: FlaskClient = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        headers = self.headers | options.pop("headers", {})
        if "data" not in options:
            options["json"] = body if body is not None else {}
        return self.http.post(path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(path, headers=self.headers | options.pop("headers", {}), **options)


@pytest.fixture
def ana(app: Flask, bus: Bus) -> Client:
    return Client(app, issue(bus, "ana"))


@pytest.fixture
def bob(app: Flask, bus: Bus) -> Client:
    return Client(app, issue(bus, "bob"))


def records(bus: Bus) -> int:
    return sum(1 for _ in bus.journal.read())


def test_an_action(ana: Client, bus: Bus) -> None:
    response = ana.post("/actions/create_kit", {"name": "Icons"}, headers={"X-Request-ID": "r-1"})
    assert response.status_code == 200
    told = response.get_json()
    assert set(told) == {"action_id", "action", "status", "position", "repeated", "result"}
    assert (told["status"], told["repeated"]) == ("succeeded", False)
    assert response.headers["X-Request-ID"] == "r-1"
    submitted, outcome = bus.journal.read(action="create_kit")
    assert (outcome.actor, outcome.correlation_id, outcome.position) == ("ana", "r-1", told["position"])
    assert submitted.context == {"via": "http", "method": "POST", "path": "/actions/create_kit"}


def test_a_view_of_two_lines(ana: Client, app: Flask) -> None:
    assert set(ana.post("/kits", {"name": "A"}).get_json()) == {"kit_id"}
    refused = ana.post("/kits", {"name": "A"})
    assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")
    assert refused.get_json()["errors"] == {"name": ["you have a kit of that name already"]}
    assert Client(app, None).post("/kits", {"name": "B"}).status_code == 401


def test_the_runner_ends_with_its_request(ana: Client, app: Flask) -> None:
    ana.post("/broken")
    with pytest.raises(Misuse, match="closed"):
        app.extensions["kept"].execute("create_kit", {"name": "late"})


DEEP = "[" * 10_000 + "]" * 10_000
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}
FIRST, LAST = "0001-01-01T00:00:00", "9999-12-31T23:59:59"
HOSTILE: list[tuple[str, str, str, bytes, dict[str, str], int]] = [
    # what, method, path, body, headers, status
    ("an unknown action", "POST", "/actions/nothing", b"{}", JSON, 404),
    ("a dotted name", "POST", "/actions/os.system", b"{}", JSON, 404),
    ("a dunder", "POST", "/actions/__init__", b"{}", JSON, 404),
    ("a path", "POST", "/actions/../../etc/passwd", b"{}", JSON, 404),
    ("an escaped slash", "POST", "/actions/a%2Fb", b"{}", JSON, 404),
    ("an escaped NUL", "POST", "/actions/a%00b", b"{}", JSON, 404),
    ("a name of a megabyte", "POST", "/actions/" + "a" * 1_000_000, b"{}", JSON, 404),
    ("a name in Cyrillic", "POST", "/actions/%D1%81reate_kit", b"{}", JSON, 404),
    ("a UUID for a name", "POST", f"/actions/{uuid4()}", b"{}", JSON, 405),
    ("the wrong method", "DELETE", "/actions/create_kit", b"{}", JSON, 405),
    ("a name that is read", "GET", "/actions/create_kit", b"", {}, 405),
    ("no arguments", "POST", "/actions/create_kit", b"{}", JSON, 422),
    ("an unknown argument", "POST", "/actions/create_kit", b'{"name": "a", "is_admin": true}', JSON, 422),
    ("a list", "POST", "/actions/create_kit", b"[]", JSON, 400),
    ("a text", "POST", "/actions/create_kit", b'"name"', JSON, 400),
    ("null", "POST", "/actions/create_kit", b"null", JSON, 400),
    ("a long number alone", "POST", "/actions/create_kit", b"9" * 5_000, JSON, 400),
    ("null, for an action that takes nothing", "POST", "/actions/revoke_token", b"null", JSON, 400),
    ("no JSON", "POST", "/actions/create_kit", b"{", JSON, 400),
    ("NaN", "POST", "/actions/create_kit", b'{"name": NaN}', JSON, 400),
    ("no UTF-8", "POST", "/actions/create_kit", b'{"name": "\xff"}', JSON, 400),
    ("10,000 lists in each other", "POST", "/actions/create_kit", DEEP.encode(), JSON, 400),
    ("100 lists in each other", "POST", "/actions/create_kit", b'{"name": ' + b"[" * 99 + b"]" * 99 + b"}", JSON, 422),
    ("a name twice", "POST", "/actions/create_kit", b'{"name": "a", "name": "b"}', JSON, 400),
    ("a NUL", "POST", "/actions/create_kit", b'{"name": "a\\u0000b"}', JSON, 422),
    ("half a surrogate", "POST", "/actions/create_kit", b'{"name": "\\ud800"}', JSON, 422),
    ("a number of 2,000 digits", "POST", "/actions/create_kit", b'{"name": ' + b"9" * 2_000 + b"}", JSON, 422),
    ("a number of 5,000 digits", "POST", "/actions/create_kit", b'{"name": ' + b"9" * 5_000 + b"}", JSON, 422),
    ("one of them in a list", "POST", "/actions/create_kit", b'{"name": ["a", ' + b"9" * 5_000 + b"]}", JSON, 422),
    ("a megabyte and a half", "POST", "/actions/create_kit", b'{"name": "' + b"a" * 1_500_000 + b'"}', JSON, 413),
    ("ten megabytes", "POST", "/actions/create_kit", b" " * 10_000_000, JSON, 413),
    ("a form", "POST", "/actions/create_kit", b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("text", "POST", "/actions/create_kit", b'{"name": "a"}', TEXT, 415),
    ("a patch", "POST", "/actions/create_kit", b'{"name": "a"}', {"Content-Type": "application/merge-patch+json"}, 415),
    ("a suffix", "POST", "/actions/create_kit", b'{"name": "a"}', {"Content-Type": "x+json"}, 415),
    ("gzip", "POST", "/actions/create_kit", b"\x1f\x8b", {**JSON, "Content-Encoding": "gzip"}, 415),
    ("an empty key", "POST", "/actions/create_kit", b'{"name": "a"}', {**JSON, "Idempotency-Key": ""}, 422),
    ("a long key", "POST", "/actions/create_kit", b'{"name": "a"}', {**JSON, "Idempotency-Key": "k" * 201}, 422),
    ("a time that is none", "POST", "/actions/create_kit?eta=soon", b'{"name": "a"}', JSON, 400),
    ("a time beyond all", "POST", f"/actions/create_kit?eta={LAST}-14:00", b'{"name": "a"}', JSON, 400),
    ("a time before all", "POST", f"/actions/create_kit?eta={FIRST}%2B14:00", b'{"name": "a"}', JSON, 400),
    ("a projection that is none", "POST", "/actions/create_kit?wait_for=x", b'{"name": "a"}', JSON, 400),
    ("an endless wait", "POST", "/actions/create_kit?timeout=inf", b'{"name": "a"}', JSON, 400),
    ("an action that is none", "GET", f"/actions/{uuid4()}", b"", {}, 404),
    ("an id that is none", "GET", "/actions/1", b"", {}, 405),
    ("an unknown search", "GET", "/search/x", b"", {}, 404),
    ("all pages", "GET", "/search/assets?limit=100000000000000000000", b"", {}, 400),
    ("a page before the first", "GET", "/search/assets?page=0", b"", {}, 400),
    ("a filter that is none", "GET", "/search/assets?filter=x", b"", {}, 400),
    ("somebody's kit", "GET", f"/search/assets?filter=kit_id:{uuid4()}", b"", {}, 403),
    ("everybody's kits", "GET", "/search/assets?q=a", b"", {}, 403),
]


@pytest.mark.parametrize(("what", "method", "path", "body", "headers", "status"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_hostile(
    ana: Client, what: str, method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    response = ana.http.open(path, method=method, data=body, headers=ana.headers | headers)
    assert response.status_code == status, response.get_data(as_text=True)[:500]
    if status in (404, 405) and response.mimetype == "text/html":
        assert "Traceback" not in response.text  # not a path of the API
        return
    assert response.mimetype == "application/problem+json"
    told = response.get_json()
    assert told["status"] == status
    assert {"type", "title", "detail"} <= set(told)
    assert len(response.data) < 3_000
    assert "set_int_max_str_digits" not in response.text
    if status == 422:
        assert told["errors"]
        assert told["action_id"], "what was asked is on record"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "Bearer " + "x" * 5_000,
        "Bearer abt_\u00e9",
        "bearer  a b",
    ],
)
def test_without_a_valid_token(app: Flask, bus: Bus, header: str | None) -> None:
    before = records(bus)
    client = app.test_client()
    for path, method in (("/actions/create_kit", "POST"), ("/actions", "GET"), ("/search/assets", "GET")):
        headers = {"Authorization": header} if header is not None else {}
        response = client.open(path, method=method, headers=headers, json={"name": "a"})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert records(bus) == before


def test_a_token_ends(app: Flask, bus: Bus) -> None:
    client = Client(app, issue(bus, "ana", days=1))
    assert client.get("/actions").status_code == 200
    with bus.engine.begin() as connection:  # as if the day were over
        connection.execute(update(TokenRow).values(expires_at=datetime.now(UTC)))
    assert client.get("/actions").status_code == 401


def test_a_token_is_taken_back(ana: Client, bus: Bus, bob: Client) -> None:
    [_, added, *_] = bus.journal.read(action="add_token")
    assert added.arguments["holder"] == "ana"
    assert bob.post("/actions/revoke_token", added.result).status_code == 422
    assert ana.post("/actions/revoke_token", added.result).status_code == 200
    assert ana.get("/actions").status_code == 401


def test_tokens_are_hashed_at_rest(app: Flask, bus: Bus) -> None:
    token = issue(bus, "ana")
    everything = "".join(repr(record) for record in bus.journal.read())
    with bus.engine.connect() as connection:
        everything += repr(connection.execute(text("SELECT * FROM api_tokens")).all())
    assert token not in everything
    assert token[4:] not in everything


def test_nobody_reads_the_records_of_others(ana: Client, bob: Client) -> None:
    told = ana.post("/actions/create_kit", {"name": "secret plans"}).get_json()
    mine = ana.get(f"/actions/{told['action_id']}").get_json()
    assert mine["state"] == "done"
    assert mine["outcome"]["result"] == told["result"]
    assert mine["submitted"]["arguments"] == {"name": "secret plans"}
    assert "seed" not in json.dumps(mine)
    theirs = bob.get(f"/actions/{told['action_id']}")
    nothing = bob.get(f"/actions/{uuid4()}")
    assert theirs.status_code == nothing.status_code == 404
    assert theirs.get_json()["detail"].replace(told["action_id"], "") == nothing.get_json()["detail"].replace(
        nothing.get_json()["detail"].split()[4], ""
    )
    assert bob.post("/actions/rename_kit", {**told["result"], "name": "mine"}).status_code == 403


def test_idempotency(ana: Client) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = ana.post("/actions/create_kit", {"name": "A"}, headers=key).get_json()
    again = ana.post("/actions/create_kit", {"name": "A"}, headers=key).get_json()
    assert again == {**first, "repeated": True}
    assert ana.post("/actions/create_kit", {"name": "B"}, headers=key).status_code == 409
    refused = {"Idempotency-Key": "k-2"}
    for _ in range(2):
        response = ana.post("/actions/create_kit", {"name": ""}, headers=refused)
        assert (response.status_code, list(response.get_json()["errors"])) == (422, ["name"])


def test_queued(ana: Client, bob: Client, bus: Bus) -> None:
    response = ana.post("/actions/create_kit", {"name": "A"}, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    where = response.headers["Location"]
    shown = ana.get(where).get_json()
    assert (shown["state"], shown["run"]["attempts"]) == ("due", 0)
    assert bob.get(where).status_code == 404
    assert isinstance(bus.queue, HeldQueue)
    bus.run_queued(bus.queue.messages[0].action_id)
    shown = ana.get(where).get_json()
    assert (shown["state"], shown["outcome"]["status"]) == ("done", "succeeded")
    refused = ana.post("/actions/create_kit", {"name": "A"}, headers={"Prefer": "respond-async, wait=1"})
    assert refused.status_code == 422
    later = ana.post("/actions/create_kit?countdown=60", {"name": "B"})
    assert (later.status_code, ana.get(later.headers["Location"]).get_json()["state"]) == (202, "queued")


def test_without_a_broker_queueing_is_not_offered(ana: Client, bus: Bus) -> None:
    bus.services.queue = None
    response = ana.post("/actions/create_kit", {"name": "A"}, headers={"Prefer": "respond-async"})
    assert response.status_code == 501
    assert "Retry-After" not in response.headers
    assert "pip" not in response.text


def test_one_reads_ones_own_writes(ana: Client, bus: Bus, app: Flask) -> None:
    operations: Projections = app.extensions["actionbus"].projections()
    stop = threading.Event()
    feeding = threading.Thread(target=Projector(bus, operations.store).run, args=[stop])
    feeding.start()
    try:
        kit = ana.post("/actions/create_kit", {"name": "A"}).get_json()["result"]
        told = ana.post(
            "/actions/add_asset?wait_for=assets&timeout=30", {**kit, "name": "grinning face", "tags": ["happy"]}
        ).get_json()
        assert told["projected"] == {"assets": True}
        found = ana.get(f"/search/assets?q=grinning&filter=kit_id:{kit['kit_id']}&facet=tags").get_json()
    finally:
        stop.set()
        feeding.join()
    assert (found["total"], found["hits"][0]["key"], found["facets"]) == (
        1, told["result"]["asset_id"], {"tags": {"happy": 1}},
    )  # fmt: skip


def test_a_projection_that_lags_does_not_fail_the_action(ana: Client) -> None:
    response = ana.post("/actions/create_kit?wait_for=kits&timeout=0.1", {"name": "A"})
    assert (response.status_code, response.get_json()["projected"]) == (200, {"kits": False})


def test_what_an_action_raises_is_told_without_its_traceback(
    ana: Client, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = ana.post("/actions/create_kit", {"name": "A"}).get_json()["result"]
    monkeypatch.setenv("ACTIONBUS_EXPORTS", os.devnull)
    response = ana.post("/actions/export_kit", {**kit, "file": "a.json"})
    assert response.status_code == 500
    told = response.get_json()
    assert told["detail"] == "the action failed and changed nothing"
    assert "Traceback" not in response.text
    assert bus.journal.outcome(UUID(told["action_id"])) is not None


def test_a_database_that_is_away(app: Flask, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue(bus, "ana")
    app.extensions["actionbus"].authenticate = lambda request: "ana"

    def away(*_: Any, **__: Any) -> Any:
        from sqlalchemy.exc import OperationalError

        raise OperationalError("SELECT 1", {"password": "hunter2"}, Exception("could not connect"))

    monkeypatch.setattr(bus.backend, "connection", away)
    client = Client(app, token)
    for response in (
        client.post("/actions/create_kit", {"name": "a"}),
        client.get(f"/actions/{uuid4()}"),
        client.get("/health/ready"),
    ):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "hunter2" not in response.text
    assert client.get("/health/live").status_code == 200


def test_the_catalogue_and_the_document(ana: Client, app: Flask) -> None:
    actions = {each["action"]: each for each in ana.get("/actions").get_json()["actions"]}
    assert actions["add_asset"]["permission"] == "kit:edit"
    document = ana.get("/openapi.json").get_json()
    assert document["openapi"] == "3.1.0"
    assert "/actions/add_asset" in document["paths"]
    schema = document["components"]["schemas"]["add_asset"]
    assert schema["required"] == ["kit_id", "name"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kit_id"] == {"type": "string", "format": "uuid"}
    assert schema["properties"]["kind"]["enum"] == ["icon", "photo", "sound", "video"]
    assert schema["properties"]["kind"]["default"] == "icon"
    page = app.test_client().get("/docs")
    assert page.mimetype == "text/html"
    with app.test_client().get("/docs/swagger-ui-bundle.js") as script:
        assert script.status_code == 200
    assert app.test_client().get("/docs/..%2Fpyproject.toml").status_code == 404


def test_mounted_elsewhere(bus: Bus) -> None:
    app = Flask("test")
    app.config["ACTIONBUS_URL_PREFIX"] = "/api/v1"
    ActionBus(app, bus=bus)
    client = app.test_client()
    assert client.get("/api/v1/openapi.json").get_json()["servers"] == [{"url": "/api/v1"}]
    assert "/api/v1/openapi.json" in client.get("/api/v1/docs").text
    assert client.get("/actions").status_code == 404
    assert client.get("/api/v1/actions/a/b").mimetype == "application/problem+json"
    app = Flask("test")
    app.config["ACTIONBUS_API"] = False
    ActionBus(app, bus=bus)
    assert app.test_client().get("/actions").status_code == 404


def test_config_and_its_mistakes(url: URL) -> None:
    with pytest.raises(ValueError, match="either"):
        ActionBus()
    with pytest.raises(ValueError, match="ACTIONBUS_DATABASE_URL"):
        ActionBus(Flask("test"), application=library)
    app = Flask("test")
    app.config["ACTIONBUS_DATABASE_URL"] = url
    extension = ActionBus(application=make_application())
    extension.init_app(app)
    with app.app_context():
        assert current_bus().engine.url == url
        current_bus().close()
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="ActionBus"):
        current_bus()


def test_metrics(ana: Client) -> None:
    ana.post("/actions/create_kit", {"name": "A"})
    ana.post("/actions/made_up_by_a_client", {})
    told = ana.get("/metrics").text
    assert 'actionbus_actions_total{action="create_kit",status="succeeded"}' in told
    assert 'actionbus_action_seconds_bucket{action="create_kit"' in told
    assert 'actionbus_runs{state="due"} 0.0' in told
    assert "actionbus_projection_lag_records{" in told
    assert "made_up_by_a_client" not in told


def test_structured_logs(ana: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="actionbus"):
        told = ana.post("/actions/create_kit", {"name": "A"}, headers={"X-Request-ID": "r-7"}).get_json()
    lines = [json.loads(formatter("json").format(record)) for record in caplog.records if record.name == "actionbus"]
    assert [line.get("status") for line in lines] == [None, "succeeded"]
    for line in lines:
        assert (line["action"], line["action_id"], line["actor"], line["correlation_id"]) == (
            "create_kit", told["action_id"], "ana", "r-7",
        )  # fmt: skip
    assert all("create_kit" in formatter("text").format(record) for record in caplog.records)


@pytest.mark.parametrize("given", ["", "x" * 201, "a b", "caf\u00e9"])
def test_a_request_id_that_is_none_is_replaced(ana: Client, given: str) -> None:
    response = ana.post("/actions/create_kit", {"name": "A"}, headers={"X-Request-ID": given})
    assert response.status_code == 200
    assert len(response.headers["X-Request-ID"]) == 32


def test_a_trace_is_continued(ana: Client, bus: Bus) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from actionbus.adapters.tracing import Tracing
    from actionbus.core.declare.middleware import Chain

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    bus.services.middleware = Chain([Tracing(provider)])
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "Prefer": "respond-async"}
    ticket = ana.post("/actions/create_kit", {"name": "A"}, headers=headers)
    assert ticket.headers["X-Request-ID"] == trace
    assert isinstance(bus.queue, HeldQueue)
    bus.run_queued(bus.queue.messages[0].action_id)
    with pytest.raises(ActionBusError):
        bus.execute("create_kit", {"name": ""}, actor="ana")
    queued, ran, refused = exporter.get_finished_spans()
    assert [f"{span.context.trace_id:032x}" for span in (queued, ran)] == [trace, trace]
    assert (queued.attributes or {})["actionbus.status"] == "queued"
    assert (ran.attributes or {})["actionbus.mode"] == "worker"
    assert (refused.attributes or {})["actionbus.status"] == "rejected"
    assert not refused.status.is_ok
