"""An application that knows only Flask-SQLAlchemy's `db.session` takes part in the action's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, g
from sqlalchemy.engine import URL

from adapters.flask import ActionBus, current_bus, provide_action_runner
from core import Application, Misuse
from tests.adapters.flask_notes import Base, Note, db


@pytest.fixture
def app(url: URL) -> Iterator[Flask]:
    app = Flask("notes")
    app.config["SQLALCHEMY_DATABASE_URI"] = url.render_as_string(hide_password=False)
    db.init_app(app)
    application = Application("notes", actions=["tests.adapters.flask_notes.actions"], models=Base.metadata)
    ActionBus(app, application=application, db=db)

    @app.post("/notes/<then>")
    @provide_action_runner
    def add(then: str) -> Any:
        before = db.session.query(Note).count()
        result = g.action_runner.execute("add_note", {"text": "hello", "then": then}).result
        db.session.rollback()
        return {**result, "before": before, "after": db.session.query(Note).count()}

    with app.app_context():
        db.create_all()
        bus = current_bus()
        bus.journal.create()
    yield app
    bus.close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_db_session_is_the_actions_session_while_one_runs(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/notes/return").get_json() == {"id": 1, "seen": 1, "before": 0, "after": 1}
    assert client.post("/notes/raise").status_code == 500
    with app.app_context():
        assert db.session.query(Note).count() == 1


def test_what_it_wrote_is_on_record(app: Flask) -> None:
    app.test_client().post("/notes/return")
    with app.app_context():
        [outcome] = current_bus().journal.read(kind="outcome")
    assert outcome.touched
    assert [row["table"] for row in outcome.touched["rows"]] == ["flask_notes"]


def test_its_commit_is_refused(app: Flask) -> None:
    app.testing = True
    with pytest.raises(Misuse, match="begin_nested"), app.app_context():
        current_bus().execute("add_note", {"text": "x", "then": "commit"})
    with app.app_context():
        assert db.session.query(Note).count() == 0
