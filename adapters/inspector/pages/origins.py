"""Where a value came from: the action that wrote it, the argument or outside answer that it equals, its caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from actionbus.adapters.http.refusals import NotFound
from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.pages.action import row_address
from actionbus.adapters.inspector.pages.rows import MOST_VERSIONS, needed
from actionbus.adapters.inspector.rendering import Page
from actionbus.adapters.inspector.values import MASKED, PERSONAL, UNKNOWN

_DEEPEST: Final = 8
_HIGHEST: Final = 20
_MOST: Final = 50


def origin(asking: Asking) -> Page:
    """Of one column of one row: who wrote it, from what, for whom."""
    table, key, column = needed(asking, "table"), needed(asking, "key"), needed(asking, "column")
    at = asking.first("at")
    found = asking.row(table, key, (*asking.given(["at"]), ("limit", MOST_VERSIONS)))
    blamed = next((each for each in found["blame"] if each["column"] == column), None)
    if blamed is None and not any(column in ((each["after"] or each["before"]) or ()) for each in found["versions"]):
        raise NotFound(f"{table[:200]} has no column {column[:200]!r}")
    chain = _chain(asking, blamed["position"]) if blamed and blamed["position"] is not None else []
    value = blamed["value"] if blamed else None
    return Page(
        "origin.html",
        {
            "title": f"Origin of {column}",
            "table": table,
            "key": key,
            "column": column,
            "at": at,
            "blamed": blamed,
            "value": value,
            "steps": [{"found": each, "last": _last(each), "from": from_where(each, value)} for each in chain],
            "row": row_address(table, key, **({"at": at} if at else {})),
            "earlier": _earlier(found["versions"], column),
        },
    )


def _last(whole: Mapping[str, Any]) -> Any:
    return whole.get("outcome") or whole.get("bypass") or whole["submitted"]


def _chain(asking: Asking, position: int) -> list[dict[str, Any]]:
    """The action that wrote, the one that ran it, and so on to the first."""
    found = [asking.action(str(position))]
    while (cause := _last(found[-1]).get("cause_id")) is not None and len(found) < _HIGHEST:
        found.append(asking.action(str(cause)))
    return found


def from_where(whole: Mapping[str, Any], value: Any) -> list[dict[str, Any]]:
    """All places in an action where an equal value stands: arguments as asked, outside answers, its result."""
    if value in (None, "", MASKED, PERSONAL, UNKNOWN) or isinstance(value, bool):
        return []
    submitted, outcome = whole.get("submitted") or {}, whole.get("outcome") or {}
    places = [
        ("argument", submitted.get("arguments")),
        ("validated argument", outcome.get("arguments")),
        ("outside call", outcome.get("calls")),
        ("context", submitted.get("context")),
    ]
    found: list[dict[str, Any]] = []
    for kind, held in places:
        for path in _paths(held, _reading(value)):
            if kind == "validated argument" and any(each["path"] == path for each in found):
                continue
            found.append({"kind": kind, "path": path})
            if len(found) == _MOST:
                return found
    return found


def _paths(held: Any, wanted: str, path: str = "", deep: int = 0) -> Iterator[str]:
    """Where in a JSON value an equal one stands."""
    if deep > _DEEPEST:
        return
    if isinstance(held, Mapping):
        for name, each in held.items():
            yield from _paths(each, wanted, f"{path}.{name}" if path else str(name), deep + 1)
    elif isinstance(held, list):
        for number, each in enumerate(held):
            yield from _paths(each, wanted, f"{path}[{number}]", deep + 1)
    elif held is not None and not isinstance(held, bool) and _reading(held) == wanted:
        yield path


def _reading(value: Any) -> str:
    """How a value reads: so `"360.00"` of a row is the `360` that was asked for."""
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return repr(number) if number == number and abs(number) < 1e15 else text


def _earlier(changes: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """The values that the column had, newest first."""
    return [each for each in changes if column in each["columns"]]
