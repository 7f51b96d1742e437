"""Routes of `/journal…` and `/history…` in the generated API, to `journal_api`, `history_api` and `job_api`."""

from __future__ import annotations

from collections.abc import Callable

import flask
from flask import Blueprint, Response, g

from actionbus.adapters.flask.state import (
    asked,
    body_of_request,
    provide_action_runner,
    responded,
    state,
    streamed,
)
from actionbus.adapters.http.access import STOPPING
from actionbus.adapters.http.reading import json_of


def add_journal(api: Blueprint) -> None:
    """Add the routes of the journal to a blueprint."""
    api.add_url_rule("/journal", "journal", _page)
    api.add_url_rule("/journal/density", "journal_density", _density)
    api.add_url_rule("/journal/stream", "journal_stream", _stream)
    api.add_url_rule("/journal/facets", "journal_facets", _facets)
    api.add_url_rule("/journal/causes/<which>", "journal_causes", _causes)
    api.add_url_rule("/journal/generated/<which>", "journal_generated", _generated)
    api.add_url_rule("/journal/<which>", "journal_action", _action)
    for name, path in (
        ("tables", "tables"),
        ("status", "status"),
        ("row", "rows/<table>/<path:key>"),
        ("state", "state/<table>"),
        ("diff", "diff"),
    ):
        api.add_url_rule(f"/history/{path}", f"history_{name}", _history(name))
    api.add_url_rule("/history/jobs", "jobs", _jobs)
    api.add_url_rule("/history/jobs", "begin_job", _begin_job, methods=["POST"])
    api.add_url_rule("/history/jobs/<name>", "job", _job)
    api.add_url_rule("/history/jobs/<name>", "cancel_job", _cancel_job, methods=["DELETE"])


@provide_action_runner
def _page() -> Response:
    return responded(state().api.journal.page(g.action_runner, asked()))


@provide_action_runner
def _action(which: str) -> Response:
    return responded(state().api.journal.action(g.action_runner, which))


@provide_action_runner
def _density() -> Response:
    return responded(state().api.journal.density(g.action_runner, asked()))


@provide_action_runner
def _stream() -> Response:
    api, stopping = state().api, flask.request.environ.get(STOPPING)
    return streamed(api.journal.stream(g.action_runner, asked(), api.streams, stopping))


@provide_action_runner
def _facets() -> Response:
    return responded(state().api.journal.facets(g.action_runner, asked()))


@provide_action_runner
def _causes(which: str) -> Response:
    return responded(state().api.journal.causes(g.action_runner, asked(), which))


@provide_action_runner
def _generated(which: str) -> Response:
    return responded(state().api.journal.generated(g.action_runner, asked(), which))


@provide_action_runner
def _jobs() -> Response:
    return responded(state().api.jobs.all(g.action_runner, asked()))


@provide_action_runner
def _begin_job() -> Response:
    api = state().api
    api.gate.check_type(asked())
    given = json_of(asked(), body_of_request(api.longest_body()))
    return responded(api.jobs.begin(g.action_runner, asked(), given))


@provide_action_runner
def _job(name: str) -> Response:
    return responded(state().api.jobs.get(g.action_runner, asked(), name))


@provide_action_runner
def _cancel_job(name: str) -> Response:
    return responded(state().api.jobs.cancel(g.action_runner, asked(), name))


def _history(name: str) -> Callable[..., Response]:
    @provide_action_runner
    def view(**parts: str) -> Response:
        answer = getattr(state().api.history, name)
        return responded(answer(g.action_runner, asked(), **parts))

    return view
