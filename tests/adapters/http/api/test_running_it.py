"""What runs the API meets: its catalogue and document, configuration, metrics, logs and traces."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from actionbus import ActionBusError, Bus
from actionbus.adapters.library.app import library
from actionbus.adapters.library.tokens import issue
from actionbus.adapters.logs import formatter
from actionbus.flask import ActionBus, current_bus
from actionbus.testing import HeldBroker
from tests.adapters.http.api.client import Client
from tests.shop.app import make_application


def test_a_database_that_is_away(app: Flask, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    token = issue(bus, "ana")
    app.extensions["actionbus"].authenticate = lambda request: "ana"

    def away(*_: Any, **__: Any) -> Any:
        from sqlalchemy.exc import OperationalError

        raise OperationalError("SELECT 1", {"password": "hunter2"}, Exception("could not connect"))

    for way in ("connection", "connection_for_action"):
        monkeypatch.setattr(bus.backend, way, away)
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
    assert "actionbus_projection_lag_positions{" in told
    assert "made_up_by_a_client" not in told


def test_structured_logs(ana: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="actionbus"):
        told = ana.post("/actions/create_kit", {"name": "A"}, headers={"X-Request-ID": "r-7"}).get_json()
    lines = [json.loads(formatter("json").format(record)) for record in caplog.records if record.name == "actionbus"]
    assert [line.get("status") for line in lines] == [None, "succeeded"]
    for line in lines:
        assert (line["action"], line["action_id"], line["actor"], line["correlation_id"]) == (
            "create_kit",
            told["action_id"],
            "ana",
            "r-7",
        )
    assert all("create_kit" in formatter("text").format(record) for record in caplog.records)


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
    assert isinstance(bus.broker, HeldBroker)
    bus.run_queued(bus.broker.messages[0].action_id)
    with pytest.raises(ActionBusError):
        bus.execute("create_kit", {"name": ""}, actor="ana")
    queued, ran, refused = exporter.get_finished_spans()
    assert [f"{span.context.trace_id:032x}" for span in (queued, ran)] == [trace, trace]
    assert (queued.attributes or {})["actionbus.status"] == "queued"
    assert (ran.attributes or {})["actionbus.mode"] == "worker"
    assert (refused.attributes or {})["actionbus.status"] == "rejected"
    assert not refused.status.is_ok
