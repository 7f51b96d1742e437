"""The inn as a Flask app for gunicorn: `tests.adapters.inspector.inn.web:made()`. Each answer says which worker gave it."""

from __future__ import annotations

import os

from flask import Flask, Response

from actionbus.flask import ActionBus
from tests.adapters.inspector.inn.app import inn


def made() -> Flask:
    """The app, by the settings of the environment."""
    app = Flask("inn")
    app.config.update(
        ACTIONBUS_DATABASE_URL=os.environ["ACTIONBUS_DATABASE_URL"],
        ACTIONBUS_ELASTICSEARCH_URL="embedded",
        ACTIONBUS_JOBS=os.environ["INN_JOBS"],
        ACTIONBUS_INSPECTOR=True,
    )
    ActionBus(app, application=inn, authenticate=lambda request: request.headers.get("X-Actor"), inspector=True)

    @app.after_request
    def tell_worker(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    return app
