"""The API shows what is set up, to whom it may, offers nothing else, and repeats its first answer."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from actionbus import ActionBusError
from actionbus.core.queueing.own import OwnQueue
from actionbus.testing import HeldBroker
from tests.adapters.conftest import Web


@pytest.mark.parametrize("path", ["/openapi.json", "/actions", "/search/assets"])
def test_who_does_not_say_who_he_is_is_told_nothing_of_the_application(web: Web, path: str) -> None:
    client = web.app.test_client()
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer abt_wrong"}).status_code == 401
    assert "create_kit" not in client.get("/docs").text
    assert web.as_("ana").get("/openapi.json").status_code == 200


@pytest.mark.parametrize("sent", ["Prefer: respond-async", "?countdown=5", "?eta=2100-01-01T00:00:00Z"])
def test_queueing_is_offered_with_a_broker_and_without(web: Web, sent: str) -> None:
    ana = web.as_("ana")
    for broker in (HeldBroker(), OwnQueue()):
        web.bus.services.broker = broker
        operation = ana.get("/openapi.json").get_json()["paths"]["/actions/create_kit"]["post"]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert names >= {"Idempotency-Key", "wait_for", "Prefer", "countdown", "eta"}
        headers = {"Prefer": "respond-async"} if sent.startswith("Prefer") else {}
        query = sent if sent.startswith("?") else ""
        response = ana.post(f"/actions/create_kit{query}", json={"name": f"kit {id(broker)}"}, headers=headers)
        assert response.status_code == 202
        assert "202" in operation["responses"]


FIRST = {
    "refused by a rule": ("create_kit", {"name": ""}, 422),
    "denied": ("rename_kit", {"kit_id": "somebody's", "name": "x"}, 403),
    "unknown": ("nothing", {}, 404),
    "too large": ("create_kit", {"name": "x" * 1_100_000}, 413),
    "raised": ("export_kit", {"kit_id": "ana's", "file": "a.json"}, 500),
    "done": ("create_kit", {"name": "new"}, 200),
}


@pytest.mark.parametrize(("again", "first", "what"), list(product(["at once", "queued"], ["at once", "queued"], FIRST)))
def test_a_repeated_key_gives_the_first_answer_again(
    web: Web, do: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, what: str, first: str, again: str
) -> None:
    monkeypatch.setenv("ACTIONBUS_EXPORTS", os.devnull)  # no folder to export to
    ana, bob = web.as_("ana"), web.as_("bob")
    kits = {"ana's": do(ana, "create_kit", name="A")["kit_id"], "somebody's": do(bob, "create_kit", name="B")["kit_id"]}
    action, arguments, status = FIRST[what]
    arguments = {name: kits.get(value, value) for name, value in arguments.items()}

    def send(how: str) -> Any:
        headers = {"Idempotency-Key": "k"} | ({"Prefer": "respond-async"} if how == "queued" else {})
        return ana.post(f"/actions/{action}", json=arguments, headers=headers)

    answer = send(first)
    if answer.status_code == 202:
        assert send("queued").status_code == 202, "it is still queued"
        try:
            web.bus.run_queued(UUID(answer.get_json()["action_id"]))
        except (ActionBusError, OSError) as error:
            assert what != "done", error
    else:
        assert answer.status_code == status
    repeated = send(again)
    assert repeated.status_code == status, repeated.text
    told, before = repeated.get_json(), answer.get_json()
    assert told["action_id"] == before["action_id"]
    if what == "done":
        assert told["repeated"] is True
        assert told["status"] == "succeeded"
    elif answer.status_code != 202:
        assert told == before


def test_no_answer_is_kept_by_a_cache_or_taken_for_something_else(web: Web, do: Callable[..., Any]) -> None:
    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    web.project()
    made = ana.post("/actions/create_kit", json={"name": "B"}).get_json()
    paths = [
        "/actions",
        f"/actions/{made['action_id']}",
        f"/search/kits?filter=kit_id:{kit}",
        f"/search/assets?filter=kit_id:{kit}",
        "/openapi.json",
        "/docs",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/actions/nothing/at/all",
        "/search/nothing",
    ]
    for path in paths:
        response = ana.get(path)
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
        assert response.headers["Cache-Control"] == "no-store", path
    for refused in (ana.post("/actions/create_kit", json={}), web.app.test_client().get("/actions")):
        assert refused.headers["Cache-Control"] == "no-store"
        assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_runs_no_script_but_its_files(web: Web) -> None:
    client = web.app.test_client()
    page = client.get("/docs")
    policy = dict(each.strip().split(" ", 1) for each in page.headers["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<script(?![^>]* src=)", page.text)
    assert not re.search(r"\son\w+=", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        with client.get(path) as file:
            assert file.status_code == 200, path
            assert file.headers["X-Content-Type-Options"] == "nosniff"
            assert "localStorage" not in (file.text if path.endswith("docs.js") else "")


@pytest.mark.parametrize("where", ["embedded", "elasticsearch"])
def test_highlights_are_html_in_which_only_the_marks_are_markup(
    web: Web, do: Callable[..., Any], where: str, request: pytest.FixtureRequest
) -> None:
    if where == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        web.app.extensions["actionbus"].api._elasticsearch = request.getfixturevalue("elasticsearch_url")
    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    names = ["<img src=x onerror=alert(1)> payload", "payload & <em>not a mark</em> \"quoted\" 'too'", "&lt; payload"]
    for name in names:
        do(ana, "add_asset", kit_id=kit, name=name)
    web.project()
    hits = ana.get(f"/search/assets?q=payload&filter=kit_id:{kit}").get_json()["hits"]
    assert len(hits) == len(names)
    seen = []
    for hit in hits:
        [found] = hit["highlights"]["name"]
        marked = re.sub(r"</?em>", "", found)
        assert "<em>payload</em>" in found
        assert not re.search(r"[<>\"']", marked), found
        seen.append(html.unescape(marked))
    assert sorted(seen) == sorted(names)


def test_the_command_line_shows_highlights_as_text(web: Web, do: Callable[..., Any], capsys: Any) -> None:
    from actionbus.adapters.cli.search import show_hits
    from actionbus.search import EsRepo

    ana = web.as_("ana")
    kit = do(ana, "create_kit", name="A")["kit_id"]
    do(ana, "add_asset", kit_id=kit, name="R&D < payload")
    web.project()
    show_hits(EsRepo(web.operations.store).search("assets", "payload"))
    assert "R&D < payload" in capsys.readouterr().out
