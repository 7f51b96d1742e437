"""Actions over HTTP: outcomes, queued ones, repeated ones, what callers read of their own; views of two lines."""

from __future__ import annotations

import os
import threading
from uuid import UUID

import pytest
from flask import Flask

from actionbus import Bus, Misuse
from actionbus.projections import Projections, Projector
from actionbus.testing import HeldBroker
from tests.adapters.http.api.client import Client


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
    assert isinstance(bus.broker, HeldBroker)
    bus.run_queued(bus.broker.messages[0].action_id)
    shown = ana.get(where).get_json()
    assert (shown["state"], shown["outcome"]["status"]) == ("done", "succeeded")
    refused = ana.post("/actions/create_kit", {"name": "A"}, headers={"Prefer": "respond-async, wait=1"})
    assert refused.status_code == 422
    later = ana.post("/actions/create_kit?countdown=60", {"name": "B"})
    assert (later.status_code, ana.get(later.headers["Location"]).get_json()["state"]) == (202, "queued")


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
        1,
        told["result"]["asset_id"],
        {"tags": {"happy": 1}},
    )


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
