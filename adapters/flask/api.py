"""The generated HTTP API, a blueprint: actions, their records, searches, the OpenAPI document, health and metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response, g, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from adapters.flask.docs import add_docs
from adapters.flask.extension import actor_of_request, current_bus, provide_action_runner, state
from adapters.flask.health import add_health
from adapters.flask.problems import Malformed, NotFound, explain, http_problem
from adapters.flask.reading import filters, json_body, number, seconds, wants_queue, when
from adapters.shown import described, described_outcome, described_record, described_run, described_ticket
from core import Bus, Outcome, PermissionDenied, Record
from core.limits import Limits
from core.payload import dumps, primitive
from projections.errors import Lagging, QueryRefused, Stopped, UnknownProjection
from projections.store import Hits

READ_JOURNAL: Final = "journal:read"
"""Asked of the checkpoint for records of somebody else's actions."""
SEARCH: Final = "search:"
"""With a projection's name, asked of the checkpoint for every search."""
_SHOWING: Final = Limits(depth=100, digits=4000)


class _ActionName(BaseConverter):
    """Whatever a client sends as an action's name, but for the id of one."""

    regex = r"(?![0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z)[^/]+"


def make_api(bus: Bus) -> Blueprint:
    """The blueprint for one bus."""
    api = Blueprint("actionbus", __name__)
    api.record(lambda setup: setup.app.url_map.converters.update(action_name=_ActionName))
    api.add_url_rule("/actions", "actions", _actions)
    api.add_url_rule("/actions/<action_name:name>", "run", _run, methods=["POST"])
    api.add_url_rule("/actions/<uuid:action_id>", "action", _action)
    api.add_url_rule("/search/<projection>", "search", _search)
    add_docs(api, bus)
    add_health(api)
    api.register_error_handler(HTTPException, http_problem)
    api.register_error_handler(Exception, explain)
    return api


def shown(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(dumps(primitive(value, _SHOWING)), status, content_type="application/json")


def _actions() -> Response:
    """The catalogue."""
    actor_of_request()
    return shown({"actions": [described(action) for action in current_bus().registry.everyday()]})


@provide_action_runner
def _run(name: str) -> Response:
    """Run an action, or queue it."""
    arguments = json_body(request, current_bus().application.limits)
    key = request.headers.get("Idempotency-Key")
    due, wanted, patience = when(request), _awaited(), seconds(request, "timeout", 10.0)
    if due is not None or wants_queue(request):
        return _queue(name, arguments, key, due)
    outcome: Outcome = g.action_runner.execute(name, arguments, idempotency_key=key)
    told = described_outcome(outcome)
    if wanted:
        told["projected"] = {each: _projected(each, outcome, patience) for each in wanted}
    return shown(told)


def _awaited() -> list[str]:
    """The projections of `wait_for`. A queued action has nothing to wait for, but its query is checked all the same."""
    wanted = request.args.getlist("wait_for")
    if unknown := sorted(set(wanted) - set(state().projections().names())) if wanted else []:
        raise Malformed(f"there is no projection {unknown[0][:100]!r} to wait for", {"wait_for": ["is unknown"]})
    return wanted


def _queue(name: str, arguments: Any, key: str | None, due: datetime | None) -> Response:
    ticket = g.action_runner.execute_async(name, arguments, idempotency_key=key, eta=due)
    response = shown(described_ticket(ticket), 202)
    response.headers["Location"] = url_for("actionbus.action", action_id=ticket.action_id)
    response.headers["Preference-Applied"] = "respond-async"
    return response


def _projected(name: str, outcome: Outcome, patience: float) -> bool:
    """Whether a search sees the outcome now. The action has succeeded, whatever becomes of its documents."""
    try:
        state().projections().wait_for(name, outcome, patience, refresh=True)
    except (Lagging, Stopped):
        return False
    return True


@provide_action_runner
def _action(action_id: UUID) -> Response:
    """What was submitted and what came of it, for whom it is meant."""
    bus = current_bus()
    records = [record for record in bus.journal.history(action_id) if record.action_id == action_id]
    if not records or not _may_see(records[0]):
        raise NotFound(f"there is no action {action_id} that you may see")
    told: dict[str, Any] = {"action_id": action_id, "action": records[0].action}
    told |= {record.kind: described_record(record) for record in records}
    run = bus.runs.get(action_id) if len(records) == 1 else None
    told["state"] = run.state if run else "done" if len(records) > 1 else "running"
    if run:
        told["run"] = described_run(run)
    return shown(told)


def _may_see(record: Record) -> bool:
    if record.actor == g.action_runner.actor:
        return True
    if not current_bus().registry.has_checkpoint:
        return False
    try:
        g.action_runner.require(READ_JOURNAL, {"action": record.action, "actor": record.actor})
    except PermissionDenied:
        return False
    return True


@provide_action_runner
def _search(projection: str) -> Response:
    """A page of documents."""
    limit, page = number(request, "limit", 20, 1000), number(request, "page", 1, 10_000)
    asked: dict[str, Any] = {
        "text": request.args.get("q", ""),
        "filters": filters(request),
        "facets": request.args.getlist("facet"),
    }
    if projection not in state().projections().names():
        raise NotFound(f"there is no projection {projection[:100]!r}")
    g.action_runner.require(SEARCH + projection, asked)
    return shown(_described_hits(_found(projection, asked, limit, page)))


def _found(projection: str, asked: dict[str, Any], limit: int, page: int) -> Hits:
    try:
        return state().es_repo().search(projection, limit=limit, offset=(page - 1) * limit, **asked)
    except UnknownProjection as error:
        raise NotFound(str(error)) from None
    except QueryRefused as error:
        raise Malformed(str(error)[:500]) from None


def _described_hits(found: Hits) -> dict[str, Any]:
    hits = [{"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights}
            for hit in found.hits]  # fmt: skip
    return {"total": found.total, "hits": hits, "facets": found.facets}
