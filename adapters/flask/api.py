"""The generated HTTP API as a blueprint: routes requests to `adapters.http`. Mounted by the extension."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, abort, g, send_file
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from actionbus.adapters.flask.journal_routes import add_journal
from actionbus.adapters.flask.problems import explained, http_problem
from actionbus.adapters.flask.state import (
    actor_of_request,
    asked,
    body_of_request,
    provide_action_runner,
    responded,
    state,
)
from actionbus.adapters.http import health
from actionbus.adapters.http.api import ACTION_NAME
from actionbus.adapters.http.docs import Docs
from actionbus.core import Bus


class _ActionName(BaseConverter):
    regex = ACTION_NAME


def make_api(bus: Bus) -> Blueprint:
    """The blueprint for one bus."""
    api = Blueprint("actionbus", __name__)
    api.record(lambda setup: setup.app.url_map.converters.update(action_name=_ActionName))
    api.before_request(_check_host)
    api.add_url_rule("/actions", "actions", _actions)
    api.add_url_rule("/actions/<action_name:name>", "run", _run, methods=["POST"])
    api.add_url_rule("/actions/<uuid:action_id>", "action", _action)
    api.add_url_rule("/search/<projection>", "search", _search)
    add_journal(api)
    api.add_url_rule("/health/live", "live", lambda: responded(health.live()))
    api.add_url_rule("/health/ready", "ready", lambda: responded(health.ready(state().api)))
    api.add_url_rule("/metrics", "metrics", lambda: responded(health.metrics(state().api)))
    _add_docs(api, Docs(bus))
    api.register_error_handler(HTTPException, http_problem)
    api.register_error_handler(Exception, explained)
    return api


def _check_host() -> None:
    state().api.gate.check_host(asked())


def _actions() -> Response:
    actor_of_request()
    return responded(state().api.catalogue())


@provide_action_runner
def _run(name: str) -> Response:
    api = state().api
    return responded(api.run(g.action_runner, asked(), name, body_of_request(api.longest_body())))


@provide_action_runner
def _action(action_id: UUID) -> Response:
    return responded(state().api.action(g.action_runner, action_id))


@provide_action_runner
def _search(projection: str) -> Response:
    return responded(state().api.search(g.action_runner, asked(), projection))


def _add_docs(api: Blueprint, docs: Docs) -> None:
    def document() -> Response:
        actor_of_request()
        return responded(docs.document(asked().root))

    def docs_file(name: str) -> Response:
        path = docs.file(name)
        if path is None:
            abort(404)
        response = send_file(path, max_age=86_400)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    api.add_url_rule("/openapi.json", "openapi", document)
    api.add_url_rule("/docs", "docs", lambda: responded(docs.page(asked().root)))
    api.add_url_rule("/docs/<name>", "docs_file", docs_file)
