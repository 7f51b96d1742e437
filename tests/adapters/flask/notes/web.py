"""The notes as a Flask application, on the database that its caller names."""

from __future__ import annotations

from typing import Any

from flask import Flask, g
from sqlalchemy.engine import URL

from actionbus.flask import ActionBus, provide_action_runner
from tests.adapters.flask.notes import Note, app, db, private


def make_app(url: URL) -> Flask:
    """A factory, as Flask has them."""
    flask_app = Flask("notes")
    flask_app.config["SQLALCHEMY_DATABASE_URI"] = url.render_as_string(hide_password=False)
    db.init_app(flask_app)
    ActionBus(flask_app, application=app)

    @flask_app.post("/notes/<then>")
    @provide_action_runner
    def add(then: str) -> Any:
        before = db.session.query(Note).count()  # its own session, with a connection of its own
        result = g.action_runner.execute("add_note", {"text": "hello", "then": then}).result
        db.session.rollback()
        return {**result, "before": before, "after": db.session.query(Note).count()}

    return flask_app


def also_private(flask_app: Flask) -> None:
    """Let the second, unshared extension be used as well."""
    flask_app.extensions.pop("sqlalchemy")
    private.init_app(flask_app)
