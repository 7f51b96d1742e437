"""Flask-SQLAlchemy's `db.session` is the action's session in every way of running one, and what escapes is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from actionbus import Bus, Misuse
from actionbus.adapters.testing.guarding import Guarding
from actionbus.flask import current_bus, share_session
from actionbus.replay import Replayer
from actionbus.testing import HeldBroker
from tests import processes
from tests.adapters.flask.notes import Note, db, private
from tests.adapters.flask.notes import app as application
from tests.adapters.flask.notes.web import also_private, make_app
from tests.conftest import query
from tests.helpers import ROOT


@pytest.fixture
def flask_app(url: URL) -> Iterator[Flask]:
    app = make_app(url)
    with app.app_context():
        bus = current_bus()
        bus.create()
    yield app
    bus.close()
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def notes(url: URL) -> int:
    [(count,)] = query(url, "SELECT count(*) FROM flask_notes")
    return int(count)


class Ran:
    """How an action ended."""

    def __init__(self, status: str, error: str = "") -> None:
        self.status, self.error = status, error


def told(run: Callable[[], Any]) -> Ran:
    try:
        outcome = run()
    except Exception as error:
        return Ran("failed", f"{type(error).__name__}: {error}")
    return Ran(outcome.status)


def recorded(flask_app: Flask) -> str:
    """The error on record, which is more than the answer says."""
    with flask_app.app_context():
        return json.dumps(current_bus().journal.tail(1)[0].error)


def from_the_command_line(flask_app: Flask, url: URL, then: str) -> Ran:
    """In a process that makes no Flask application at all."""
    done = processes.run(
        [
            Path(sys.executable).with_name("actionbus"),
            "--app",
            "tests.adapters.flask.notes:app",
            "--database",
            url.render_as_string(hide_password=False),
            "run",
            "add_note",
            "--text",
            "x",
            "--then",
            then,
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran("succeeded" if done.returncode == 0 else "failed", done.stdout + done.stderr)


def from_python(flask_app: Flask, url: URL, then: str) -> Ran:
    with Bus(application, url) as bus:
        return told(lambda: bus.execute("add_note", {"text": "x", "then": then}))


def in_an_application_context(flask_app: Flask, url: URL, then: str) -> Ran:
    with flask_app.app_context():
        return told(lambda: current_bus().execute("add_note", {"text": "x", "then": then}))


def by_a_worker(flask_app: Flask, url: URL, then: str) -> Ran:
    with Bus(application, url, broker=HeldBroker()) as bus:
        ticket = bus.runner().execute_async("add_note", {"text": "x", "then": then})
        return told(lambda: bus.run_queued(ticket.action_id))


def by_a_worker_in_a_context(flask_app: Flask, url: URL, then: str) -> Ran:
    with flask_app.app_context():
        return by_a_worker(flask_app, url, then)


def in_a_request(flask_app: Flask, url: URL, then: str) -> Ran:
    answer = flask_app.test_client().post(f"/notes/{then}")
    if answer.status_code != 200:
        return Ran("failed", recorded(flask_app))
    assert answer.get_json()["after"] == answer.get_json()["before"] + 1
    return Ran("succeeded")


def over_the_api(flask_app: Flask, url: URL, then: str) -> Ran:
    answer = flask_app.test_client().post("/actions/add_note", json={"text": "x", "then": then})
    return Ran("succeeded" if answer.status_code == 200 else "failed", recorded(flask_app))


def in_the_testing_kit(flask_app: Flask, url: URL, then: str) -> Ran:
    guarding = Guarding()
    with Bus(application, url, middleware=[guarding]) as bus:
        guarding.engine = bus.engine
        return told(lambda: bus.execute("add_note", {"text": "x", "then": then}))


WAYS = [
    from_the_command_line,
    from_python,
    in_an_application_context,
    by_a_worker,
    by_a_worker_in_a_context,
    in_a_request,
    over_the_api,
    in_the_testing_kit,
]


@pytest.mark.parametrize("way", WAYS)
def test_db_session_is_the_actions_session(flask_app: Flask, url: URL, way: Any) -> None:
    ran = way(flask_app, url, "return")
    assert ran.status == "succeeded", ran.error
    assert notes(url) == 1
    with flask_app.app_context():
        outcome = current_bus().journal.tail(1)[0]
        assert outcome.result["seen"] == 1
        assert [change.table.removeprefix("public.") for change in outcome.touched] == ["flask_notes"]


@pytest.mark.parametrize("way", WAYS)
def test_what_fails_leaves_nothing(flask_app: Flask, url: URL, way: Any) -> None:
    ran = way(flask_app, url, "raise")
    assert ran.status == "failed"
    assert re.search(r"\bno\b", ran.error), ran.error
    assert notes(url) == 0


@pytest.mark.parametrize(("then", "way"), list(product(["commit", "rollback", "close", "remove"], WAYS)))
def test_its_transaction_is_not_the_handlers_to_end(flask_app: Flask, url: URL, way: Any, then: str) -> None:
    ran = way(flask_app, url, then)
    assert ran.status == "failed"
    assert "begin_nested" in ran.error, ran.error
    assert notes(url) == 0


@pytest.mark.parametrize("way", [in_an_application_context, by_a_worker_in_a_context, over_the_api])
@pytest.mark.parametrize("then", ["engine", "unshared"])
def test_ways_around_it_are_refused_by_name(flask_app: Flask, url: URL, way: Any, then: str) -> None:
    """`db.engine`, and a session that nobody shared: never a success with nothing written, nor a write of its own."""
    also_private(flask_app)
    if then == "engine":
        flask_app.extensions["sqlalchemy"] = db
    ran = way(flask_app, url, then)
    assert ran.status == "failed"
    assert "share_session" in ran.error, ran.error
    with flask_app.app_context():
        private.session.remove()
    assert notes(url) == 0


def test_options_for_a_session_of_its_own_are_refused(flask_app: Flask, url: URL) -> None:
    assert from_python(flask_app, url, "configure").status == "failed"
    assert notes(url) == 0


def test_a_context_that_the_handler_enters_ends_without_ending_the_action(
    flask_app: Flask, url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask-SQLAlchemy removes the session at the end of an application context: not the action's."""
    from tests.adapters.flask.notes.actions.add_note import AddNote

    def execute(self: AddNote) -> int:
        db.session.add(Note(text="before"))
        with flask_app.app_context():
            db.session.add(Note(text="inside"))
        db.session.add(Note(text="after"))
        db.session.flush()
        return db.session.query(Note).count()

    monkeypatch.setattr(AddNote, "execute", execute)
    for run in (from_python, in_an_application_context):
        assert run(flask_app, url, "return").status == "succeeded"
    assert notes(url) == 6


def test_outside_of_actions_it_is_what_it_was(flask_app: Flask, url: URL) -> None:
    share_session(db.session)  # twice is once
    with flask_app.app_context():
        mine = db.session()
        db.session.add(Note(text="mine"))
        current_bus().execute("add_note", {"text": "x"}) if url.get_backend_name() == "postgresql" else None
        assert db.session() is mine
        assert [note.text for note in db.session.new] == ["mine"]
        db.session.remove()
        assert db.session() is not mine
    with pytest.raises(RuntimeError, match="application context"):
        db.session()


def test_a_replay_takes_part_in_the_sandbox(flask_app: Flask, url: URL, server: Any) -> None:
    with Bus(application, url) as bus:
        for then in ("return", "return", "raise", "commit"):
            told(lambda then=then: bus.execute("add_note", {"text": "x", "then": then}))  # type: ignore[misc]
        sandbox = server.database() if url.get_backend_name() == "postgresql" else None
        with Replayer(bus.journal, application, sandbox) as replayer:
            steps = list(replayer.verify(statuses=("succeeded", "failed")))
            assert [(step.verdict, step.differences) for step in steps] == [("same", [])] * 4
        if sandbox is not None:
            server.drop(sandbox)
    assert notes(url) == 2


def test_a_misuse_says_what_to_do(flask_app: Flask, url: URL) -> None:
    with flask_app.app_context(), pytest.raises(Misuse, match="begin_nested"):
        current_bus().execute("add_note", {"text": "x", "then": "commit"})


def test_a_preview_is_seen_by_the_shared_session_and_leaves_nothing(flask_app: Flask, url: URL) -> None:
    with flask_app.app_context():
        seen = current_bus().runner().preview("add_note", {"text": "x", "then": "return"})
        assert (seen.outcome.status, [each.operation for each in seen.changes]) == ("succeeded", ["insert"])
        db.session.remove()
    assert notes(url) == 0
