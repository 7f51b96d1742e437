"""Reads what a client sent: a JSON body, a query's numbers, preferences. Every input is hostile until checked."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from flask.wrappers import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from adapters.flask.problems import Malformed
from core import Limits
from core.payload import parse
from core.ticket import LONGEST_DELAY_S, due_at, moment

_LONGEST_WAIT_S = 30.0


def json_body(request: Request, limits: Limits) -> Any:
    """The body's JSON value; an empty object for an empty body. Raises Malformed, 413 or 415."""
    # Twice the limit of the journal's form, since white space is not kept.
    most = 2 * limits.arguments_bytes
    if request.content_length is not None and request.content_length > most:
        raise RequestEntityTooLarge
    request.max_content_length = most
    text = request.get_data(cache=False)
    if not text and not request.content_type:
        return {}
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("send the arguments as application/json")
    if request.content_encoding:
        raise UnsupportedMediaType("send the body without a Content-Encoding")
    try:
        return parse(text.decode())
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except ValueError as error:
        raise Malformed(f"the body is not JSON: {error}"[:500]) from None


def wants_queue(request: Request) -> bool:
    """Whether the client prefers not to wait: `Prefer: respond-async` (RFC 7240)."""
    given = ",".join(request.headers.getlist("Prefer"))
    return any(each.split(";")[0].strip().lower() == "respond-async" for each in given.split(","))


def when(request: Request) -> datetime | None:
    """When a queued action is due: the later of `eta` and `countdown`; None for at once. Raises Malformed."""
    found: list[datetime] = []
    try:
        if "eta" in request.args:
            given = datetime.fromisoformat(request.args["eta"])
            found.append(given if given.tzinfo else given.replace(tzinfo=UTC))
        if "countdown" in request.args:
            found.append(moment(due_at(None, float(request.args["countdown"])) or 0))
    except (ValueError, OverflowError):
        raise Malformed(f"eta is an ISO 8601 time, countdown a number of seconds from 0 to {LONGEST_DELAY_S}") from None
    return max(found, default=None)


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most` in the query. Raises Malformed."""
    given = request.args.get(name, str(default))
    if given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most:
        return int(given)
    raise Malformed(f"{name} must be a whole number from 1 to {most}", {name: [f"must be 1 to {most}"]})


def seconds(request: Request, name: str, default: float) -> float:
    """How long to wait, in the query. Raises Malformed."""
    try:
        found = float(request.args.get(name, default))
    except ValueError:
        found = math.nan
    if 0 <= found <= _LONGEST_WAIT_S:
        return found
    raise Malformed(f"{name} must be 0 to {_LONGEST_WAIT_S:g} seconds", {name: ["must be a number of seconds"]})


def filters(request: Request) -> dict[str, list[str]]:
    """`filter=FIELD:VALUE`, any number of times. Raises Malformed."""
    found: dict[str, list[str]] = {}
    for each in request.args.getlist("filter"):
        name, separator, value = each.partition(":")
        if not separator or not name:
            raise Malformed("a filter is FIELD:VALUE", {"filter": ["must be FIELD:VALUE"]})
        found.setdefault(name, []).append(value)
    return found
