"""The fixed parts of the OpenAPI document: what arguments look like, what answers look like, what is refused."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

_NUMBER: Final = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
KINDS: Final[dict[Any, dict[str, Any]]] = {
    str: {"type": ["string"]},
    int: {"type": ["integer", "string"], "pattern": r"^\s*[+-]?[0-9]+\s*$"},
    float: {"type": ["number", "string"], "pattern": _NUMBER},
    Decimal: {"type": ["number", "string"], "pattern": _NUMBER},
    bool: {
        "type": ["boolean", "integer", "string"],
        "minimum": 0,
        "maximum": 1,
        "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[01])$",
    },
    datetime: {"type": ["string"], "format": "date-time", "examples": ["2026-01-31T12:00:00Z"]},
    date: {"type": ["string"], "format": "date", "examples": ["2026-01-31"]},
    time: {"type": ["string"], "examples": ["12:30:00"]},
    timedelta: {"type": ["number", "string"], "format": "duration", "examples": ["PT90S"]},
    UUID: {"type": ["string"], "format": "uuid"},
}
"""What `core.declare.arg_types` accepts, as JSON Schema: `pattern` and `format` speak of strings only."""

MESSAGES: Final = {"type": "object", "description": "field → messages", "additionalProperties": {}}
PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference", "description": "the action's page in the inspector"},
        "errors": MESSAGES,
        "action_id": {"type": "string", "format": "uuid"},
    },
}
OUTCOME: Final = {
    "type": "object",
    "required": ["action_id", "action", "status", "position", "repeated", "result"],
    "properties": {
        "action_id": {"type": "string", "format": "uuid"},
        "action": {"type": "string"},
        "status": {"const": "succeeded"},
        "position": {"type": "integer", "description": "its place in the journal"},
        "repeated": {"type": "boolean", "description": "whether an earlier call with this key did it"},
        "result": {},
        "projected": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
            "description": "whether searches see it, for each projection waited for",
        },
    },
}
TICKET: Final = {
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
REFUSALS: Final = {
    "400": "Malformed request",
    "401": "No valid token",
    "403": "Permission denied",
    "404": "Not found",
    "405": "Another method is meant; see `Allow`",
    "409": "Idempotency key used otherwise, in progress, or a value that is there already",
    "413": "Too large",
    "415": "Not JSON",
    "421": "Sent to a host that is not ours",
    "422": "Invalid arguments; `errors` maps fields to messages",
    "500": "The action failed and changed nothing",
    "503": "The database is away, or too many wait; try again after Retry-After seconds",
}


def response(description: str, schema: str | None = None) -> dict[str, Any]:
    """An answer in JSON, of a shape that the document names."""
    shape = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}
    return {"description": description, "content": {"application/json": {"schema": shape}}}


def refusals(*codes: str) -> dict[str, Any]:
    """What is refused with these statuses."""
    shape = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {code: {"description": REFUSALS[code], "content": shape} for code in codes}
