"""Who calls: without a valid token nothing runs; tokens end, are taken back, and are hashed at rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import text, update

from actionbus import Bus
from actionbus.adapters.library.models import TokenRow
from actionbus.adapters.library.tokens import issue
from tests.adapters.http.api.client import Client


def records(bus: Bus) -> int:
    return sum(1 for _ in bus.journal.read())


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
