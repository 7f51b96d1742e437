"""Reads what a client sent: a JSON body, a query's numbers, preferences. Every input is hostile until checked."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from actionbus.adapters.http.refusals import Malformed, UnsupportedType
from actionbus.adapters.http.request import Request
from actionbus.core import Limits
from actionbus.core.gateway.ticket import LONGEST_DELAY_S, due_at, moment
from actionbus.core.values.payload import parse, unstorable_text

LONGEST_WAIT_S: Final = 30.0
MOST_AWAITED: Final = 20


def longest_body(limits: Limits) -> int:
    """How many bytes of a body are read: twice the limit of the journal's form, since white space is not kept."""
    return 2 * limits.arguments_bytes


def json_of(request: Request, body: bytes) -> dict[str, Any]:
    """The body's JSON object; an empty one for an empty body. Raises Malformed or UnsupportedType."""
    if not body and not request.header("Content-Type"):
        return {}
    kind = request.header("Content-Type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedType("send the arguments as application/json")
    if request.header("Content-Encoding"):
        raise UnsupportedType("send the body without a Content-Encoding")
    try:
        read = parse(body.decode())
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except ValueError as error:
        raise Malformed(f"the body is not JSON: {error}"[:500]) from None
    if not isinstance(read, dict):
        raise Malformed("the body must be a JSON object: the arguments by name")
    return read


def wants_queue(request: Request) -> bool:
    """Whether the client prefers not to wait: `Prefer: respond-async` (RFC 7240)."""
    given = request.header("Prefer").split(",")
    return any(each.partition(";")[0].strip().lower() == "respond-async" for each in given)


def due_time_of(request: Request) -> datetime | None:
    """When a queued action is due: the later of `eta` and `countdown`; None for at once. Raises Malformed."""
    found: list[datetime] = []
    try:
        if (eta := request.first("eta")) is not None:
            given = datetime.fromisoformat(eta)
            due_at(given, None)
            found.append(given if given.tzinfo else given.replace(tzinfo=UTC))
        if (countdown := request.first("countdown")) is not None:
            found.append(moment(due_at(None, float(countdown)) or 0))
    except (ValueError, OverflowError):
        raise Malformed(f"eta is an ISO 8601 time, countdown a number of seconds from 0 to {LONGEST_DELAY_S}") from None
    return max(found, default=None)


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most` in the query. Raises Malformed."""
    given = once(request, name)
    if given is None:
        return default
    if given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most:
        return int(given)
    raise Malformed(f"{name} must be a whole number from 1 to {most}", {name: [f"must be 1 to {most}"]})


def seconds_to_wait(request: Request, name: str, default: float) -> float:
    """How long to wait, in the query. Raises Malformed."""
    given = request.first(name)
    try:
        found = default if given is None else float(given)
    except ValueError:
        found = math.nan
    if 0 <= found <= LONGEST_WAIT_S:
        return found
    raise Malformed(f"{name} must be 0 to {LONGEST_WAIT_S:g} seconds", {name: ["must be a number of seconds"]})


def once(request: Request, name: str) -> str | None:
    """A parameter that makes sense only once. Raises Malformed."""
    given = request.all(name)
    if len(given) > 1:
        raise Malformed(f"{name} is given {len(given)} times, more than once", {name: ["at most once"]})
    return given[0] if given else None


def repeated_values(request: Request, name: str, most: int) -> list[str]:
    """A parameter that may be repeated, each value once. Raises Malformed."""
    given = request.all(name)
    if len(given) > most:
        raise Malformed(f"{name} is given {len(given)} times, more than {most}", {name: [f"at most {most} times"]})
    return [storable(name, each) for each in dict.fromkeys(given)]


def refuse_others(request: Request, known: Collection[str]) -> None:
    """A parameter that is mistyped would be passed over, and more be shown than was asked for. Raises Malformed."""
    for name, _ in request.query:
        if name not in known:
            shown = name[:100]
            raise Malformed(
                f"there is no parameter {shown!r}; there are: {', '.join(sorted(known))}", {shown: ["is unknown"]}
            )


def storable(name: str, text: str) -> str:
    """A text that a database could hold."""
    if why := unstorable_text(text):
        raise Malformed(f"{name} {why}", {name: [why]})
    return text
