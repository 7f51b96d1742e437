"""Reads what a client searches for, and which page of it; `Api.search` asks it."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.http.cursors import Cursors
from actionbus.adapters.http.reading import once, refuse_others, repeated_values, storable, whole_number
from actionbus.adapters.http.refusals import Malformed
from actionbus.adapters.http.request import Request
from actionbus.projections.search import BOUNDS, MATCHES, MOST_FACETS, MOST_FILTERS, MOST_SORTS, START

LONGEST_QUERY: Final = 1_000
_PARAMETERS: Final = frozenset(("q", "match", "filter", "range", "facet", "sort", "limit", "page", "cursor"))


def asked_of(request: Request) -> dict[str, Any]:
    """What is searched for, as the checkpoint is asked about it. Raises Malformed."""
    refuse_others(request, _PARAMETERS)
    return {
        "text": _words(request),
        "match": _match(request),
        "filters": _filters(request),
        "ranges": _ranges(request),
        "facets": repeated_values(request, "facet", MOST_FACETS),
        "sort": repeated_values(request, "sort", MOST_SORTS),
    }


def page_of(request: Request, cursors: Cursors) -> dict[str, Any]:
    """Which page of it. Raises Malformed."""
    limit = whole_number(request, "limit", 20, 1000)
    if (given := once(request, "cursor")) is None:
        return {"limit": limit, "offset": (whole_number(request, "page", 1, 10_000) - 1) * limit}
    if once(request, "page") is not None:
        raise Malformed("give a page or a cursor, not both", {"page": ["not beside a cursor"]})
    return {"limit": limit, "after": given if given == START else cursors.opened(given)}


def _words(request: Request) -> str:
    given = once(request, "q") or ""
    if len(given) > LONGEST_QUERY:
        raise Malformed(f"q is longer than {LONGEST_QUERY} characters", {"q": [f"at most {LONGEST_QUERY} characters"]})
    return storable("q", given)


def _match(request: Request) -> str:
    given = once(request, "match") or "words"
    if given not in MATCHES:
        known = ", ".join(MATCHES)
        raise Malformed(f"match must be one of {known}", {"match": [f"must be one of {known}"]})
    return given


def _filters(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in repeated_values(request, "filter", MOST_FILTERS):
        name, separator, value = each.partition(":")
        if not separator or not name:
            raise Malformed("a filter is FIELD:VALUE", {"filter": ["must be FIELD:VALUE"]})
        found.setdefault(name, []).append(value)
    return found


def _ranges(request: Request) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for each in repeated_values(request, "range", MOST_FILTERS):
        name, _, rest = each.partition(":")
        bound, separator, value = rest.partition(":")
        if not name or not separator or bound not in BOUNDS:
            form = f"FIELD:BOUND:VALUE, where BOUND is one of {', '.join(BOUNDS)}"
            raise Malformed(f"a range is {form}", {"range": [f"must be {form}"]})
        if found.setdefault(name, {}).setdefault(bound, value) != value:
            raise Malformed(
                f"{name[:100]} is bounded by {bound} more than once", {"range": [f"one {bound} of a field"]}
            )
    return found
