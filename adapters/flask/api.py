"""The generated HTTP API as a blueprint: routes requests to `adapters.http`. Mounted by the extension."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, abort, g, request, send_file
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from actionbus.adapters.flask.problems import explained, http_problem
from actionbus.adapters.flask.state import actor_of_request, asked, provide_action_runner, responded, state
from actionbus.adapters.http import health
from actionbus.adapters.http.api import ACTION_NAME
from actionbus.adapters.http.docs import Docs
from actionbus.adapters.http.refusals import TooLarge
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
    return responded(api.run(g.action_runner, asked(), name, _body(api.longest_body())))


def _body(most: int) -> bytes:
    if request.content_length is not None and request.content_length > most:
        raise TooLarge(f"the body is larger than {most} bytes")
    request.max_content_length = most
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {most} bytes") from None


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
