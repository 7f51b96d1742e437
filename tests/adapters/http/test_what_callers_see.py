"""What a caller sees of his own action: arguments, status, result, errors by field. The rest needs `journal:read`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Application, Arg, Bus, PermissionDenied, outside
from actionbus.flask import ActionBus
from actionbus.testing import HeldBroker
from tests.adapters.conftest import Web
from tests.helpers import write_package

TOLD_OF_SUBMITTED = {
    "position",
    "action_id",
    "kind",
    "action",
    "actor",
    "correlation_id",
    "cause_id",
    "idempotency_key",
    "recorded_at",
    "arguments",
}
TOLD_OF_OUTCOME = (TOLD_OF_SUBMITTED - {"idempotency_key"}) | {"status", "started_at", "duration_us", "result", "error"}
SECRET = "what-only-the-outside-knows"


class Provider:
    """Stands for a payment provider, which returns more than the end user is to see."""

    def charge(self, card: str) -> dict[str, str]:
        if card == "refused":
            raise ConnectionError(SECRET)
        return {"internal": SECRET}


def note(session: Session) -> Session:
    return session


class Pay(ActionHandler):
    """Calls the outside, and ends as it is told."""

    requires = ("provider", "db")
    arguments = {"card": Arg(str), "end": Arg(str, default="succeed")}
    provider: Provider
    db: Session

    def execute(self) -> Any:
        from sqlalchemy import text

        self.db.execute(text("INSERT INTO notes (text) VALUES (:text)"), {"text": SECRET})
        self.provider.charge(self.args.card)
        if self.args.end == "reject":
            self.reject("card", "is no good")
        if self.args.end == "raise":
            raise RuntimeError(SECRET)
        if self.args.end == "refused by the database":
            self.db.execute(text("INSERT INTO nowhere VALUES (:text)"), {"text": SECRET})
        if self.args.end == "deny":
            raise PermissionDenied("ask somebody else")
        return {"paid": True}


class Reader:
    """Lets only the auditor read the journal."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        if permission == "journal:read" and self.actor != "auditor":
            raise PermissionDenied("not for you")


ENDS = {"succeed": 200, "reject": 422, "raise": 500, "refused by the database": 500, "deny": 403}


@pytest.fixture
def shop(url: URL, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    write_package(
        tmp_path,
        "paying",
        pay="from tests.adapters.http.test_what_callers_see import Pay as Base\n\n\nclass Pay(Base):\n    '''Pays.'''\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(**checkpoint: Any) -> Flask:
        dependencies = {"provider": outside(Provider), "db": note, **checkpoint}
        bus = Bus(Application("paying", actions=["paying"], dependencies=dependencies), url)
        bus.journal.create()
        with bus.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text VARCHAR(200))")
        bus.services.broker = HeldBroker()
        app = Flask("paying")
        ActionBus(app, bus=bus, authenticate=lambda request: request.headers.get("X-Actor"))
        buses.append(bus)
        return app

    buses: list[Bus] = []
    yield made
    for bus in buses:
        bus.close()
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "paying"]:
        del sys.modules[name]


def ended(app: Flask, end: str, how: str) -> str:
    """The id of an action of ana's that ended so, run at once or by a worker."""
    client = app.test_client()
    bus = app.extensions["actionbus"].bus
    headers = {"X-Actor": "ana"} | ({"Prefer": "respond-async"} if how == "queued" else {})
    response = client.post("/actions/pay", json={"card": "c", "end": end}, headers=headers)
    if how == "queued":
        assert response.status_code == 202
        try:
            bus.run_queued(UUID(response.get_json()["action_id"]))
        except Exception as error:
            assert end != "succeed", error
    else:
        assert response.status_code == ENDS[end], response.text
        assert SECRET not in response.text
    found: str = response.get_json()["action_id"]
    return found


@pytest.mark.parametrize("checkpoint", ["none", "one"])
@pytest.mark.parametrize("how", ["at once", "queued"])
@pytest.mark.parametrize("end", ENDS)
def test_a_caller_sees_what_he_asked_and_what_came_of_it(shop: Any, end: str, how: str, checkpoint: str) -> None:
    app = shop(**({"checkpoint": Reader} if checkpoint == "one" else {}))
    action_id = ended(app, end, how)
    response = app.test_client().get(f"/actions/{action_id}", headers={"X-Actor": "ana"})
    told = response.get_json()
    assert SECRET not in response.text
    assert set(told) <= {"action_id", "action", "state", "submitted", "outcome"}
    assert set(told["submitted"]) <= TOLD_OF_SUBMITTED
    assert set(told["outcome"]) <= TOLD_OF_OUTCOME
    assert told["submitted"]["arguments"] == {"card": "c", "end": end}
    if end == "succeed":
        assert told["outcome"]["result"] == {"paid": True}
        return
    error = told["outcome"]["error"]
    assert error["status"] == ENDS[end]
    assert set(error) <= {"type", "title", "status", "detail", "errors"}
    if end == "reject":
        assert error["errors"] == {"card": ["is no good"]}
    if end == "deny":
        assert error["detail"] == "ask somebody else"


@pytest.mark.parametrize("end", ENDS)
def test_who_may_read_the_journal_sees_all_but_the_seed(shop: Any, end: str) -> None:
    app = shop(checkpoint=Reader)
    action_id = ended(app, end, "at once")
    response = app.test_client().get(f"/actions/{action_id}", headers={"X-Actor": "auditor"})
    told = response.get_json()
    assert [call["call"] for call in told["outcome"]["calls"]] == ["provider.charge"]
    assert SECRET in response.text
    assert told["submitted"]["context"]["via"] == "http"
    assert "seed" not in response.text
    if end == "raise":
        assert told["outcome"]["error"]["traceback"]


def test_an_attempt_that_came_to_no_end_tells_the_caller_no_message_of_the_database(shop: Any) -> None:
    app = shop(checkpoint=Reader)
    bus = app.extensions["actionbus"].bus
    client = app.test_client()
    told = client.post("/actions/pay", json={}, headers={"X-Actor": "ana", "Prefer": "respond-async"}).get_json()
    with bus.backend.connection() as connection:
        run = bus.services.claims.take(connection, "worker-host-7", 60, only=UUID(told["action_id"]))
    assert run is not None
    bus.runs.hand_back(run, 0.0, SECRET)
    seen = client.get(f"/actions/{told['action_id']}", headers={"X-Actor": "ana"})
    assert seen.get_json()["run"]["attempts"] == 1
    assert SECRET not in seen.text
    assert "worker" not in seen.get_json()["run"]
    assert SECRET in client.get(f"/actions/{told['action_id']}", headers={"X-Actor": "auditor"}).text


def test_tag_found_tells_nothing_of_kits_that_one_may_not_edit(web: Web, do: Callable[..., Any]) -> None:
    ana, bob, cleo = web.as_("ana"), web.as_("bob"), web.as_("cleo")
    kit = do(ana, "create_kit", name="Deals")["kit_id"]
    for number in range(3):
        do(ana, "add_asset", kit_id=kit, name=f"merger with Acme {number}")
    do(ana, "share_kit", kit_id=kit, member="cleo", role="viewer")
    own = do(bob, "create_kit", name="Own")["kit_id"]
    web.project()
    answers = []
    for who in (bob, cleo):
        for words in ("merger", "nothing like it"):
            response = who.post("/actions/tag_found", json={"words": words, "tags": ["x"]})
            assert response.status_code == 422
            answers.append(response.get_json()["errors"])
            seen = who.get(f"/actions/{response.get_json()['action_id']}").text
            outcome = web.bus.journal.get(UUID(response.get_json()["action_id"]))
            assert outcome is not None
            assert "Acme" not in seen + json.dumps(outcome.calls)
            assert kit not in seen + json.dumps(outcome.calls)
    assert all(each == answers[0] for each in answers), "whether there are such assets elsewhere"
    mine = do(bob, "add_asset", kit_id=own, name="my merger")["asset_id"]
    web.project()
    result = do(bob, "tag_found", words="merger", tags=["x"])
    assert result["asset_ids"] == [mine]
    assert result.get("found", 1) == 1
