"""What the OpenAPI document says of `/journal…`. Used by `adapters.http.openapi`."""

from __future__ import annotations

from typing import Any, Final, get_args

from apispec import APISpec

from actionbus.adapters.http.history_api import MOST_ROWS
from actionbus.adapters.http.job_kinds import FIELDS, KINDS
from actionbus.adapters.http.journal_api import MOST_DEPTH, MOST_WIDTH
from actionbus.adapters.http.journal_asked import LONGEST_QUERY, LONGEST_VALUE, MOST_RECORDS, MOST_VALUES
from actionbus.adapters.http.schemas import refusals, response
from actionbus.core.browsing.density import MOST_BUCKETS
from actionbus.core.values.record import STATUSES, Kind

_READ: Final = ("400", "401", "403", "421", "500", "503")


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def _values(name: str, description: str, **item: Any) -> dict[str, Any]:
    items = {"type": "string", "maxLength": LONGEST_VALUE, **item}
    schema = {"type": "array", "items": items, "maxItems": MOST_VALUES}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _both(name: str, what: str, **item: Any) -> list[dict[str, Any]]:
    return [
        _values(name, f"Only these {what}; may be repeated.", **item),
        _values(f"exclude_{name}", f"None of these {what}; may be repeated.", **item),
    ]


TIMES: Final = [
    _query("since", "Recorded at or after this time; ISO 8601, naive ones UTC.", format="date-time"),
    _query("until", "Recorded before this time.", format="date-time"),
]
FILTERS: Final = [
    *_both("action", "actions"),
    *_both("actor", "actors; an empty text for nobody"),
    *_both("status", "statuses", enum=["", *STATUSES]),
    *_both("release", "releases of the application; an empty text for none"),
    *_both("correlation", "correlation ids"),
    *_both("kind", "kinds of records; outcomes and bypasses unless given", enum=list(get_args(Kind))),
    _query("cause", "Caused by this action.", format="uuid"),
    _query("touching", "TABLE, or TABLE:KEY, commas or JSON within a key; * for any table.", pattern="^[^:]+(:.+)?$"),
    _query("q", "Words in arguments, results or errors, all of them; in a window of records.", maxLength=LONGEST_QUERY),
    *TIMES,
]
_LIMIT: Final = {
    "name": "limit",
    "in": "query",
    "description": "Records on a page.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_RECORDS, "default": 50},
}
_CURSOR: Final = _query("cursor", "`older` or `newer` of another page.", pattern="^[on][0-9]{1,18}$")


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _whole(name: str, description: str, default: int, most: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"name": name, "in": "query", "description": description, "schema": schema}


_WHICH: Final = _path("which", "An action's id, or the position of one of its records.")
_TABLE: Final = _path("table", "A recorded table; without its schema where only one has it.")
_AT: Final = _query("at", "A position, an ISO 8601 time, an action's id, `start` or `end`, which it is by default.")
_PLACE: Final = _query("cursor", "`more` of the page before, with the same table.")
_ROWS: Final = _whole("limit", "Rows on a page.", 50, MOST_ROWS)
_ONE: Final = (*_READ, "404")


def add_journal(spec: APISpec) -> None:
    """Add the paths of the journal to a specification."""
    _add(spec, "/journal", "list_journal", "The newest records; others by cursor", [*FILTERS, _LIMIT, _CURSOR], _READ)
    _add(
        spec,
        "/journal/{which}",
        "show_journal_action",
        "One action whole: asked, came of it, rows, what it caused",
        [_WHICH],
        ("401", "403", "404", "421", "500", "503"),
    )
    _add(
        spec,
        "/journal/density",
        "journal_density",
        "How much was recorded when, in buckets",
        [*FILTERS, _whole("buckets", "How many.", 100, MOST_BUCKETS)],
        _READ,
    )
    _add_stream(spec)
    _add(spec, "/journal/facets", "journal_facets", "Values to filter by, among the newest records", FILTERS, _READ)
    _add(
        spec,
        "/journal/causes/{which}",
        "journal_causes",
        "What led to an action, and what it led to",
        [
            _WHICH,
            _whole("depth", "Levels below it.", 3, MOST_DEPTH),
            _whole("width", "Actions below each.", 20, MOST_WIDTH),
        ],
        _ONE,
    )
    value = {**_query("value", "As JSON tells it; an id, a time.", maxLength=LONGEST_VALUE), "required": True}
    _add(
        spec,
        "/journal/generated/{which}",
        "journal_generated",
        "Whether an action gave itself a value, by its clock or its ids",
        [_WHICH, value],
        _ONE,
    )
    _add(spec, "/history/tables", "history_tables", "Which tables are recorded, since when", [_AT], _ONE)
    _add(spec, "/history/status", "history_status", "Whether all that is to be recorded is recorded", [], _ONE)
    _add(
        spec,
        "/history/rows/{table}/{key}",
        "history_row",
        "What became of a row, and who gave it its values",
        [
            _TABLE,
            _path("key", "Its key; of several columns with commas between them, or a JSON array."),
            _AT,
            _whole("limit", "Changes, the last ones.", 50, MOST_ROWS),
        ],
        _ONE,
    )
    _add(
        spec,
        "/history/state/{table}",
        "history_state",
        "A page of a table as it was",
        [_TABLE, _AT, _ROWS, _PLACE],
        _ONE,
    )
    low = {**_query("from", "From this point, as `at`."), "required": True}
    _add(
        spec,
        "/history/diff",
        "history_diff",
        "The rows that differ between two points",
        [low, _query("to", "Up to this point; the end by default."), _query("table", "Only of this one."), _ROWS],
        _ONE,
    )
    add_jobs(spec)


def add_jobs(spec: APISpec) -> None:
    """Add the paths of jobs."""
    texts = {name: {"type": "string"} for name in FIELDS} | {"kind": {"type": "string", "enum": list(KINDS)}}
    body = {"type": "object", "required": ["kind"], "properties": texts, "additionalProperties": False}
    content = {"application/json": {"schema": body}}
    which = _path("name", "A job's id.")
    spec.path(
        "/history/jobs",
        operations={
            "get": _job("list_jobs", "The latest jobs, newest first", [], "200"),
            "post": _job(
                "begin_job",
                "Begin a job: bisect, verify, what if, preview, revert, a decision about the queue",
                [],
                "202",
                "413",
                "415",
            )
            | {"requestBody": {"required": True, "content": content}},
        },
    )
    spec.path(
        "/history/jobs/{name}",
        operations={
            "get": _job("show_job", "How far a job is, and what came of it", [which], "200"),
            "delete": _job("cancel_job", "End a job, as Ctrl-C does; asked again, at once", [which], "200"),
        },
    )


def _job(name: str, summary: str, parameters: list[dict[str, Any]], status: str, *more: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["journal"],
        "summary": summary,
        "security": [{"token": []}],
        "parameters": parameters,
        "responses": {status: response(summary), **refusals(*_ONE, *more)},
    }


def _add_stream(spec: APISpec) -> None:
    chosen = [each for each in FILTERS if each["name"] != "until"]
    last = {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event that came.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    }
    after = _query("after", "Begin beyond this position; now unless given.", pattern="^[0-9]{1,18}$")
    summary = "Records as they come, as server-sent events"
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    spec.path(
        "/journal/stream",
        operations={
            "get": {
                "operationId": "stream_journal",
                "tags": ["journal"],
                "summary": summary,
                "security": [{"token": []}],
                "parameters": [*chosen, last, after],
                "responses": {"200": {"description": summary, "content": content}, **refusals(*_READ)},
            }
        },
    )


def _add(
    spec: APISpec, path: str, name: str, summary: str, parameters: list[dict[str, Any]], refused: tuple[str, ...]
) -> None:
    spec.path(
        path,
        operations={
            "get": {
                "operationId": name,
                "tags": ["journal"],
                "summary": summary,
                "security": [{"token": []}],
                "parameters": parameters,
                "responses": {"200": response(summary), **refusals(*refused)},
            }
        },
    )
