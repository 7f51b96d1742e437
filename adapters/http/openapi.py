"""The OpenAPI 3.1 document of an application's API, made by apispec from the Marshmallow schemas of its actions."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import fields

from adapters.shown import options_of, summary
from core import Arg, Bus, Limits
from core.conversions import Converted
from core.payload import primitive
from core.registry import Action
from core.ticket import LONGEST_DELAY_S

_NUMBER: Final = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
_KINDS: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": ["string"]},
    int: {"type": ["integer", "string"], "pattern": r"^\s*[+-]?[0-9]+\s*$"},
    float: {"type": ["number", "string"], "pattern": _NUMBER},
    Decimal: {"type": ["number", "string"], "pattern": _NUMBER},
    bool: {"type": ["boolean", "integer", "string"], "minimum": 0, "maximum": 1,
           "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[01])$"},
    datetime: {"type": ["string"], "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]},
    date: {"type": ["string"], "format": "date", "examples": ["2026-01-31"]},
    time: {"type": ["string"], "examples": ["12:30:00"]},
    timedelta: {"type": ["number", "string"], "format": "duration", "examples": ["PT90S"]},
    UUID: {"type": ["string"], "format": "uuid"},
}  # fmt: skip
"""What the conversions of `core.conversions` accept, as JSON Schema: `pattern` and `format` speak of strings only."""

_MESSAGES: Final = {"type": "object", "description": "field → messages", "additionalProperties": {}}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": _MESSAGES,
        "action_id": {"type": "string", "format": "uuid"},
    },
}
_OUTCOME: Final = {
    "type": "object",
    "required": ["action_id", "action", "status", "position", "repeated", "result"],
    "properties": {
        "action_id": {"type": "string", "format": "uuid"},
        "action": {"type": "string"},
        "status": {"const": "succeeded"},
        "position": {"type": "integer", "description": "its place in the journal"},
        "repeated": {"type": "boolean", "description": "whether an earlier call with this key did it"},
        "result": {},
        "projected": {"type": "object", "additionalProperties": {"type": "boolean"},
                      "description": "whether searches see it, for each projection waited for"},
    },
}  # fmt: skip
_TICKET: Final = {
    "type": "object",
    "required": ["action_id", "action", "status", "due_at", "repeated"],
    "properties": {
        "action_id": {"type": "string", "format": "uuid"},
        "action": {"type": "string"},
        "status": {"const": "queued"},
        "due_at": {"type": "string", "format": "date-time"},
        "repeated": {"type": "boolean"},
        "problem": {"type": "string", "description": "why the broker does not have it yet"},
    },
}
_REFUSALS: Final = {
    "400": "Malformed request", "401": "No valid token", "403": "Permission denied", "404": "Not found",
    "405": "Another method is meant; see `Allow`", "409": "Idempotency key used otherwise, or still in progress",
    "413": "Too large", "415": "Not JSON",
    "422": "Invalid arguments; `errors` maps fields to messages", "500": "The action failed and changed nothing",
    "503": "The database is away; try again after Retry-After seconds",
}  # fmt: skip


def document(bus: Bus, prefix: str = "") -> dict[str, Any]:
    """The document; `prefix` is where the API is mounted."""
    spec = APISpec(
        title=bus.application.name,
        version=bus.application.release or "0",
        openapi_version="3.1.0",
        plugins=[plugin := MarshmallowPlugin()],
        info={"description": "Every change of state is an action; what came of it is kept in the journal."},
        servers=[{"url": prefix or "/"}],
    )
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_as_accepted)  # type: ignore[no-untyped-call]
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for name, schema in {"Problem": _PROBLEM, "Outcome": _OUTCOME, "Ticket": _TICKET}.items():
        spec.components.schema(name, schema)
    for action in bus.registry:
        spec.components.schema(action.name, schema=action.schema)
        spec.path(f"/actions/{action.name}", operations={"post": _operation(action, _projections(bus))})
    _add_reading(spec, bus)
    told = spec.to_dict()
    for action in bus.registry:
        _add_declared(action, told["components"]["schemas"][action.name]["properties"])
    return dict(told)


def _as_accepted(self: Any, field: fields.Field[Any], ret: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The types that a converted field accepts. Bound to apispec's converter as its attribute function."""
    if not isinstance(field, Converted):
        return {}
    kind = field.kind
    told = dict(_KINDS.get(kind, {}))
    if isinstance(kind, type) and issubclass(kind, Enum) and kind not in _KINDS:
        told = {"enum": [member.value for member in kind] + [m.name for m in kind if m.name != m.value]}
    if "type" in told:
        types = [*told["type"], *(["null"] if field.allow_none else [])]
        told["type"] = types[0] if len(types) == 1 else types
    elif field.allow_none:
        told["enum"].append(None)
    return told


def _add_declared(action: Action, properties: dict[str, Any]) -> None:
    """What an Arg tells beyond its Marshmallow field."""
    for name, arg in action.handler.arguments.items():
        told = properties[name]
        if arg.description:
            told["description"] = arg.description
        if arg.sensitive:
            told |= {"format": "password", "writeOnly": True}
        if arg.personal:
            told["x-personal"] = True
        if (options := options_of(arg)) is not None and told.get("type") == "array":
            told["items"] = dict(told.get("items", {})) | {"enum": primitive(options, Limits())}
        if (default := _default(arg)) is not None:
            told["default"] = default


def _default(arg: Arg) -> Any:
    """The default in JSON, of a factory such as `list` too."""
    if not arg.has_default:
        return None
    if callable(arg.default):
        return arg.default() if arg.default in (list, dict) else None
    return primitive(arg.default, Limits())


def _projections(bus: Bus) -> list[str]:
    return [projection.name for projection in bus.application.projections]


def _operation(action: Action, projections: list[str]) -> dict[str, Any]:
    arguments = {"schema": {"$ref": f"#/components/schemas/{action.name}"}}
    return {
        "operationId": action.name,
        "tags": ["actions"],
        "summary": summary(action),
        "description": "\n\n".join(filter(None, [summary(action, whole=True), _permission(action)])),
        "security": [{"token": []}],
        "parameters": [*_RUNNING, *(_waiting(projections) if projections else [])],
        "requestBody": {"required": any(arg.required for arg in action.handler.arguments.values()),
                        "content": {"application/json": arguments}},
        "responses": {
            "200": _response("It succeeded", "Outcome"),
            "202": _response("It is queued; `Location` shows what becomes of it", "Ticket"),
            **_refusals(*_REFUSALS),
        },
    }  # fmt: skip


_RUNNING: Final = [
    {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 200},
     "description": "Take effect once per key, whatever the network does."},
    {"name": "Prefer", "in": "header", "schema": {"type": "string"},
     "description": "`respond-async`: validate, queue, and answer 202."},
    {"name": "countdown", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
     "description": "Seconds until a queued action is due; with `eta`, the later counts."},
    {"name": "eta", "in": "query", "schema": {"type": "string", "format": "date-time"},
     "description": "When a queued action is due."},
]  # fmt: skip


def _waiting(projections: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": "wait_for", "in": "query", "schema": {"type": "array", "items": {"enum": projections}},
         "description": "Answer once searches of this projection see the outcome."},
        {"name": "timeout", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": 30},
         "description": "Seconds to wait for projections."},
    ]  # fmt: skip


def _permission(action: Action) -> str:
    return f"Needs the permission `{action.handler.permission}`." if action.handler.permission else ""


def _add_reading(spec: APISpec, bus: Bus) -> None:
    spec.path("/actions", operations={"get": {
        "operationId": "list_actions", "tags": ["reading"], "summary": "The catalogue of actions",
        "security": [{"token": []}],
        "responses": {"200": _response("The catalogue"), **_refusals("401", "503")},
    }})  # fmt: skip
    spec.path("/actions/{action_id}", operations={"get": {
        "operationId": "show_action", "tags": ["reading"], "summary": "What was submitted and what came of it",
        "security": [{"token": []}],
        "parameters": [{"name": "action_id", "in": "path", "required": True,
                        "schema": {"type": "string", "format": "uuid"}}],
        "responses": {"200": _response("Its records and its state"), **_refusals("401", "404", "405", "503")},
    }})  # fmt: skip
    if names := _projections(bus):
        spec.path("/search/{projection}", operations={"get": {
            "operationId": "search", "tags": ["reading"], "summary": "Search documents",
            "security": [{"token": []}], "parameters": _searching(names),
            "responses": {"200": _response("A page of hits"), **_refusals("400", "401", "403", "404", "503")},
        }})  # fmt: skip


def _searching(names: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": "projection", "in": "path", "required": True, "schema": {"type": "string", "enum": names}},
        {"name": "q", "in": "query", "schema": {"type": "string"}, "description": "Words that must all be there."},
        {"name": "filter", "in": "query",
         "schema": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:[\\s\\S]*$"}},
         "description": "FIELD:VALUE; several values of a field are alternatives."},
        {"name": "facet", "in": "query", "schema": {"type": "array", "items": {"type": "string"}},
         "description": "Count the values of a field over all hits."},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}},
        {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1}},
    ]  # fmt: skip


def _response(description: str, schema: str | None = None) -> dict[str, Any]:
    shape = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}
    return {"description": description, "content": {"application/json": {"schema": shape}}}


def _refusals(*codes: str) -> dict[str, Any]:
    shape = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": _REFUSALS[code], "content": shape} for code in codes}
