"""The timeline: records newest first, narrowed by the address alone; and where the search field leads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from actionbus.adapters.http.journal_asked import FILTERS
from actionbus.adapters.inspector.asking import Asking, Pairs, address
from actionbus.adapters.inspector.pages.action import told
from actionbus.adapters.inspector.pages.strip import strip
from actionbus.adapters.inspector.rendering import Goto, Page
from actionbus.adapters.inspector.values import moment_of
from actionbus.core.values.points import position_of

ON_A_PAGE: Final = 100
STATUSES: Final = ("succeeded", "rejected", "denied", "failed", "interrupted")
_NAMED: Final = {"q": "text", "touching": "changed"}
"""Filters that a page calls otherwise than the address."""
_OF_A_PAGE: Final = frozenset({"cursor", "limit", "sel", "part"})
_MENUS: Final = ("action", "actor", "status", "release")


def timeline(asking: Asking) -> Page:
    """The newest records, or those beside a cursor; with `sel`, one of them beside the list."""
    asking.refuse_others(FILTERS | _OF_A_PAGE)
    filters = asking.given(FILTERS)
    cursor, limit = asking.given(["cursor"]), asking.given(["limit"])
    found = asking.journal((*filters, *(limit or (("limit", str(ON_A_PAGE)),)), *cursor))
    chosen = asking.first("sel")
    is_part = asking.first("part") == "rows"
    return Page(
        "rows.html" if is_part else "timeline.html",
        {
            "title": "Timeline",
            "records": found["records"],
            "found": found,
            "filters": filters,
            "chips": [_chip(filters, each) for each in filters],
            "menus": _MENUS,
            "facets": None if is_part else asking.facets(filters)["facets"],
            "strip": None if is_part else strip(asking, filters),
            "statuses": STATUSES,
            "narrowed": lambda name, value: address("/", _with(filters, name, value)),
            "older": _beside(filters, limit, found["older"]),
            "newer": _beside(filters, limit, found["newer"]),
            "tail": None if cursor or asking.first("until") else _tail(filters, found["looked_at"]["upto"]),
            "again": address("/", (*filters, *limit)),
            "is_newest": not cursor,
            "chosen": told(asking, asking.action(chosen)) if chosen else None,
            "linked": lambda which: address("/", (*filters, *limit, *cursor, ("sel", str(which)))),
            "values_of": lambda name: [value for each, value in filters if each == name],
        },
    )


def _beside(filters: Pairs, limit: Pairs, cursor: str | None) -> str | None:
    return None if cursor is None else address("/", (*filters, *limit, ("cursor", cursor)))


def _tail(filters: Pairs, position: int) -> str:
    """Where what is newer than the page comes from."""
    return address("/tail", (*filters, ("after", str(position))))


def _chip(filters: Pairs, each: tuple[str, str]) -> dict[str, Any]:
    name, value = each
    excluded = name.startswith("exclude_")
    return {
        "name": _NAMED.get(name, name.removeprefix("exclude_")),
        "excluded": excluded,
        "value": value,
        "without": address("/", _without(filters, each)),
    }


def _with(filters: Pairs, name: str, value: str) -> Pairs:
    """A filter more, in the place of its opposite."""
    other = name.removeprefix("exclude_") if name.startswith("exclude_") else f"exclude_{name}"
    return (*_without(_without(filters, (name, value)), (other, value)), (name, value))


def _without(filters: Iterable[tuple[str, str]], each: tuple[str, str]) -> Pairs:
    return tuple(pair for pair in filters if pair != each)


def go(asking: Asking) -> Goto:
    """From what somebody typed or pasted: a place, a time, TABLE or TABLE:KEY, an action, else words."""
    to = (asking.first("to") or "").strip()
    if not to:
        return Goto("/")
    if position_of(to) is not None or _is_id(to):
        return Goto(f"/actions/{to}")
    when = moment_of(to)
    if when is not None:
        return Goto(address("/", [("until", when.isoformat())]))
    table, colon, key = to.partition(":")
    if colon and key:
        return Goto(address("/row", [("table", table), ("key", key)]))
    if to in {each["table"].rpartition(".")[2] for each in asking.tables()["tables"]}:
        return Goto(address("/table", [("table", to)]))
    is_name = (
        asking.api.bus.registry.find(to) is not None or asking.journal([("action", to), ("limit", "1")])["records"]
    )
    return Goto(address("/", [("action" if is_name or not asking.may_search() else "q", to)]))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
