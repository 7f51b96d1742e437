"""What an action raised is the action's failure, whatever its class; what a view raised is Flask's matter."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, abort, g, redirect
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from actionbus import Bus, outside
from actionbus.adapters.http.refusals import Unauthorized
from actionbus.flask import ActionBus, provide_action_runner
from actionbus.projections.errors import IndexMissing
from tests.conftest import BusFactory, elsewhere
from tests.shop.app import checkpoint, make_application, repo

ONCE_AND_AGAIN = NotFound("the same object every time")


def _raise(error: BaseException) -> None:
    raise error


ENDS: dict[str, Callable[[], Any]] = {
    "an exception": lambda: 1 / 0,
    "an answer of 200": lambda: abort(Response("fine", 200)),
    "a redirection": lambda: abort(redirect("/elsewhere")),
    "not found": lambda: abort(404),
    "a teapot": lambda: abort(418),
    "one object, raised anew": lambda: _raise(ONCE_AND_AGAIN),
    "a refusal of the layer's own": lambda: _raise(Unauthorized()),
    "an exit": lambda: sys.exit(0),
    "an interruption": lambda: _raise(KeyboardInterrupt()),
    "a cancellation": lambda: _raise(asyncio.CancelledError()),
}
pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""No database has a part in this."""


class Mailer:
    """Ends as it is asked to."""

    def send(self, to: str, text: str) -> None:
        ENDS[to]()


@pytest.fixture
def bus(make_bus: BusFactory) -> Bus:
    dependencies = {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)}
    return make_bus(make_application(dependencies=dependencies))


@pytest.fixture
def app(bus: Bus) -> Flask:
    app = Flask("failing")
    ActionBus(app, bus=bus, authenticate=lambda request: "ana")

    @app.post("/views/notify/<to>")
    @provide_action_runner
    def notify(to: str) -> Any:
        g.action_runner.execute("notify", {"to": to})
        return {}

    @app.post("/views/own/<to>")
    @provide_action_runner
    def own(to: str) -> Any:
        ENDS[to]()

    @app.errorhandler(ZeroDivisionError)
    def divided(error: ZeroDivisionError) -> Any:
        return "the application's own handler", 400

    return app


def asked(app: Flask, path: str, **body: Any) -> Any:
    """The answer, as a server's thread gives it: an interruption in the main thread comes from the keyboard."""
    return elsewhere(lambda: app.test_client().post(path, json=body))


@pytest.mark.parametrize("end", ENDS)
def test_whatever_an_action_raises_is_its_failure(
    app: Flask, bus: Bus, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice, since an exception may be the same object again."""
    for _ in range(2):
        caplog.clear()
        answer = asked(app, "/actions/notify", to=end)
        assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
        *_, outcome = bus.journal.read()
        assert UUID(answer.get_json()["action_id"]) == outcome.action_id
        assert (answer.get_json()["type"], outcome.status) == ("urn:actionbus:failed", "failed")
        assert any("failed with 500" in record.message and record.exc_info for record in caplog.records)


@pytest.mark.parametrize("end", [end for end in ENDS if end != "an exception"])
def test_nor_does_a_view_answer_with_it(app: Flask, bus: Bus, end: str) -> None:
    answer = asked(app, f"/views/notify/{end}")
    *_, outcome = bus.journal.read()
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert UUID(answer.get_json()["action_id"]) == outcome.action_id


def test_a_view_of_the_applications_keeps_what_flask_does(app: Flask) -> None:
    """With what it raises itself, and with the exceptions that the application has a handler for."""
    answers = {end: asked(app, f"/views/own/{end}") for end in ("an answer of 200", "a redirection", "a teapot")}
    assert [answer.status_code for answer in answers.values()] == [200, 302, 418]
    with pytest.raises(SystemExit):
        asked(app, "/views/own/an exit")
    assert asked(app, "/views/notify/an exception").text == "the application's own handler"


def test_an_interruption_from_the_keyboard_reaches_the_server(app: Flask) -> None:
    with pytest.raises(KeyboardInterrupt):
        app.test_client().post("/actions/notify", json={"to": "an interruption"})


def test_documents_that_an_action_could_not_search_are_told_with_its_id(
    app: Flask, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENDS, "no documents", lambda: _raise(IndexMissing("no such index")))
    answer = asked(app, "/actions/notify", to="no documents")
    *_, outcome = bus.journal.read()
    assert (answer.status_code, answer.get_json()["action_id"]) == (503, str(outcome.action_id))


def test_what_flask_refuses_in_the_api_stays_what_it_is(app: Flask) -> None:
    answer = app.test_client().get("/actions/notify")
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"OPTIONS", "POST"})
