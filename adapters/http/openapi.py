"""The OpenAPI 3.1 document of an application's API, made by apispec from the Marshmallow schemas of its actions."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import fields

from actionbus.adapters.http.cursors import LONGEST_CURSOR
from actionbus.adapters.http.journal_openapi import add_journal
from actionbus.adapters.http.reading import LONGEST_WAIT_S, MOST_AWAITED
from actionbus.adapters.http.schemas import KINDS, OUTCOME, PROBLEM, REFUSALS, TICKET, refusals, response
from actionbus.adapters.http.searching import LONGEST_QUERY
from actionbus.adapters.json_views import options_of, summary
from actionbus.core import Arg, Bus, Limits
from actionbus.core.declare.arg_types import ConvertingField
from actionbus.core.declare.registry import Action
from actionbus.core.gateway.ticket import LONGEST_DELAY_S
from actionbus.core.values.payload import primitive
from actionbus.projections.search import BOUNDS, MATCHES, MOST_FACETS, MOST_FILTERS, MOST_SORTS, START


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
    for name, schema in {"Problem": PROBLEM, "Outcome": OUTCOME, "Ticket": TICKET}.items():
        spec.components.schema(name, schema)
    for action in bus.registry.everyday():
        spec.components.schema(action.name, schema=action.schema)
        spec.path(
            f"/actions/{action.name}",
            operations={"post": _operation(action, _projections(bus))},
        )
    _add_reading(spec, bus)
    add_journal(spec)
    told = spec.to_dict()
    for action in bus.registry.everyday():
        _add_declared(action, told["components"]["schemas"][action.name]["properties"])
    return dict(told)


def _as_accepted(self: Any, field: fields.Field[Any], ret: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The types that a converted field accepts. Bound to apispec's converter as its attribute function."""
    if not isinstance(field, ConvertingField):
        return {}
    kind = field.kind
    told = dict(KINDS.get(kind, {}))
    if isinstance(kind, type) and issubclass(kind, Enum) and kind not in KINDS:
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
    ticket = {"202": response("It is queued; `Location` shows what becomes of it", "Ticket")}
    return {
        "operationId": action.name,
        "tags": ["actions"],
        "summary": summary(action),
        "description": "\n\n".join(filter(None, [summary(action, whole=True), _permission(action)])),
        "security": [{"token": []}],
        "parameters": [_KEY, *_QUEUING, *(_waiting(projections) if projections else [])],
        "requestBody": {
            "required": any(arg.required for arg in action.handler.arguments.values()),
            "content": {"application/json": arguments},
        },
        "responses": {
            "200": response("It succeeded", "Outcome"),
            **ticket,
            **refusals(*REFUSALS),
        },
    }


_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "Take effect once per key, whatever the network does.",
}
_QUEUING: Final = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string"},
        "description": "`respond-async`: validate, queue, and answer 202.",
    },
    {
        "name": "countdown",
        "in": "query",
        "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY_S},
        "description": "Seconds until a queued action is due; with `eta`, the later counts.",
    },
    {
        "name": "eta",
        "in": "query",
        "schema": {"type": "string", "format": "date-time"},
        "description": "When a queued action is due.",
    },
]


def _waiting(projections: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": "wait_for",
            "in": "query",
            "schema": {"type": "array", "items": {"enum": projections}, "maxItems": MOST_AWAITED},
            "description": "Answer once searches of these projections see the outcome.",
        },
        {
            "name": "timeout",
            "in": "query",
            "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_S},
            "description": "Seconds to wait for projections, for all of them together.",
        },
    ]


def _permission(action: Action) -> str:
    return f"Needs the permission `{action.handler.permission}`." if action.handler.permission else ""


def _add_reading(spec: APISpec, bus: Bus) -> None:
    spec.path(
        "/actions",
        operations={
            "get": {
                "operationId": "list_actions",
                "tags": ["reading"],
                "summary": "The catalogue of actions",
                "security": [{"token": []}],
                "responses": {"200": response("The catalogue"), **refusals("401", "421", "500", "503")},
            }
        },
    )
    spec.path(
        "/actions/{action_id}",
        operations={
            "get": {
                "operationId": "show_action",
                "tags": ["reading"],
                "summary": "What was submitted and what came of it",
                "security": [{"token": []}],
                "parameters": [
                    {
                        "name": "action_id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "format": "uuid"},
                    }
                ],
                "responses": {
                    "200": response("Its records and its state"),
                    **refusals("401", "404", "405", "421", "500", "503"),
                },
            }
        },
    )
    if names := _projections(bus):
        spec.path(
            "/search/{projection}",
            operations={
                "get": {
                    "operationId": "search",
                    "tags": ["reading"],
                    "summary": "Search documents",
                    "security": [{"token": []}],
                    "parameters": _searching(names),
                    "responses": {
                        "200": response("A page of hits"),
                        **refusals("400", "401", "403", "404", "421", "500", "503"),
                    },
                }
            },
        )


def _searching(names: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": "projection", "in": "path", "required": True, "schema": {"type": "string", "enum": names}},
        {
            "name": "q",
            "in": "query",
            "schema": {"type": "string", "maxLength": LONGEST_QUERY},
            "description": "Words that must all be there; what has no space between stands side by side.",
        },
        {
            "name": "match",
            "in": "query",
            "schema": {"enum": list(MATCHES), "default": MATCHES[0]},
            "description": "Whether the words are looked for apart, side by side, or the last one as a beginning.",
        },
        {
            "name": "filter",
            "in": "query",
            "schema": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[^:]+:[\\s\\S]*$"},
                "maxItems": MOST_FILTERS,
            },
            "description": "FIELD:VALUE; several values of a field are alternatives.",
        },
        {
            "name": "range",
            "in": "query",
            "schema": {
                "type": "array",
                "maxItems": MOST_FILTERS,
                "items": {"type": "string", "pattern": f"^[^:]+:({'|'.join(BOUNDS)}):[\\s\\S]*$"},
            },
            "description": "FIELD:BOUND:VALUE; all bounds hold. A time is ISO 8601.",
        },
        {
            "name": "sort",
            "in": "query",
            "schema": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_SORTS},
            "description": "FIELD, or -FIELD for descending; what fits best comes first if it is left out.",
        },
        {
            "name": "facet",
            "in": "query",
            "schema": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_FACETS},
            "description": "Count the values of a field over all hits.",
        },
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}},
        {
            "name": "page",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1},
            "description": "Up to the 10,000th hit; not beside a cursor.",
        },
        {
            "name": "cursor",
            "in": "query",
            "schema": {"type": "string", "maxLength": LONGEST_CURSOR},
            "description": f"`{START}` for a first page, then the `next` of the page before: to the very end.",
        },
    ]
