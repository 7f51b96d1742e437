"""What a request asks of the journal: filters, times, a place, how many. All that makes no sense is refused by name.

`PARAMETERS` is what the OpenAPI document says of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast, get_args
from uuid import UUID

from actionbus.adapters.http.reading import once, repeated_values, storable
from actionbus.adapters.http.refusals import Malformed
from actionbus.adapters.http.request import Request
from actionbus.core import JournalFilter
from actionbus.core.values.journal_filter import ANY_TABLE, Excluded, Touching
from actionbus.core.values.points import position_of
from actionbus.core.values.record import STATUSES, Kind

MOST_VALUES: Final = 50
MOST_RECORDS: Final = 200
MOST_WORDS: Final = 10
LONGEST_QUERY: Final = 200
LONGEST_VALUE: Final = 1_000
_KINDS: Final = frozenset(get_args(Kind))
_FIELDS: Final = {
    "action": "action",
    "actor": "actor",
    "status": "status",
    "kind": "kind",
    "release": "release",
    "correlation": "correlation_id",
}
"""By the parameter's name, the filter's field."""
FILTERS: Final = frozenset(
    {*_FIELDS, *(f"exclude_{name}" for name in _FIELDS), "cause", "touching", "since", "until", "q"}
)
"""The parameters that `filter_of` reads."""


def filter_of(request: Request) -> JournalFilter:
    """Which records are wanted. Outcomes and bypasses, unless `kind` says otherwise. Raises Malformed."""
    included = {field: _values(request, name) for name, field in _FIELDS.items()}
    excluded = {field: _values(request, f"exclude_{name}") for name, field in _FIELDS.items()}
    given: dict[str, Any] = {field: values for field, values in included.items() if values}
    return JournalFilter(
        **({"kind": ("outcome", "bypass")} | given),
        cause_id=_cause(request),
        touching=touching_of(request),
        text=_words(request),
        since=moment_of(request, "since"),
        until=moment_of(request, "until"),
        excluded=Excluded(**excluded),
    )


def _values(request: Request, name: str) -> list[str]:
    found = repeated_values(request, name, MOST_VALUES)
    for each in found:
        if len(each) > LONGEST_VALUE:
            raise Malformed(f"{name} is longer than {LONGEST_VALUE} characters", {name: ["is too long"]})
        if name.endswith("status") and each not in ("", *STATUSES):
            raise Malformed(f"{name} is one of {', '.join(STATUSES)}", {name: ["is unknown"]})
        if name.endswith("kind") and each not in _KINDS:
            raise Malformed(f"{name} is one of {', '.join(sorted(_KINDS))}", {name: ["is unknown"]})
    return found


def _words(request: Request) -> str | None:
    given = one_of(request, "q")
    if given is None:
        return None
    words = given.split()
    if not words or len(words) > MOST_WORDS or len(given) > LONGEST_QUERY:
        told = f"is 1 to {MOST_WORDS} words of {LONGEST_QUERY} characters at most"
        raise Malformed(f"q {told}", {"q": [told]})
    return given


def one_of(request: Request, name: str) -> str | None:
    """A parameter that is given once at most. Raises Malformed."""
    given = once(request, name)
    if given is not None and len(given) > LONGEST_VALUE:
        raise Malformed(f"{name} is longer than {LONGEST_VALUE} characters", {name: ["is too long"]})
    return None if given is None else storable(name, given)


def _cause(request: Request) -> UUID | None:
    given = one_of(request, "cause")
    try:
        return None if given is None else UUID(given)
    except ValueError:
        raise Malformed("cause is an action's id", {"cause": ["must be a UUID"]}) from None


def touching_of(request: Request) -> Touching | None:
    """A table, or a row of one: TABLE or TABLE:KEY, the parts of a key with commas between. Raises Malformed."""
    given = one_of(request, "touching")
    if given is None:
        return None
    table, colon, key = given.partition(":")
    if not table or (colon and (not key or table == ANY_TABLE)):
        raise Malformed("touching is TABLE or TABLE:KEY", {"touching": ["must be TABLE or TABLE:KEY"]})
    return cast("Touching", (table, key) if key else (table,))


def moment_of(request: Request, name: str) -> datetime | None:
    """A time, naive ones being UTC. Raises Malformed."""
    given = one_of(request, name)
    if given is None:
        return None
    try:
        # In a query a plus sign that was not escaped reads as a space.
        read = datetime.fromisoformat(given.replace(" 0", "+0") if "T" in given else given)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed(f"{name} is an ISO 8601 time", {name: ["must be an ISO 8601 time"]}) from None


def after_of(request: Request) -> int | None:
    """From which position on a stream goes: where the client left off, or `after`; None for now. Raises Malformed."""
    given = request.header("Last-Event-ID") or one_of(request, "after")
    if given is None:
        return None
    if (position := position_of(given)) is None:
        told = "is a position, the id of the last event"
        raise Malformed(f"after, or Last-Event-ID, {told}", {"after": [told]})
    return position
