"""Where a value came from: the action that wrote it, the argument or outside answer that it equals, its caller.

Of a column of a row; or of an argument or a result of an action, which was given or made by that action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from actionbus.adapters.http.refusals import NotFound
from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.pages.changes import row_address
from actionbus.adapters.inspector.pages.rows import MOST_VERSIONS, needed
from actionbus.adapters.inspector.rendering import Page
from actionbus.adapters.inspector.values import MASKED, PERSONAL, UNKNOWN
from actionbus.core import PermissionDenied
from actionbus.core.values.payload import dumps

_DEEPEST: Final = 8
_HIGHEST: Final = 20
_MOST: Final = 50
_LONGEST_MADE: Final = 200
"""Characters of an id or a time."""
_VERBS: Final = {
    "insert": "inserted",
    "update": "changed",
    "delete": "removed",
    "baseline": "found there",
    "gap": "noticed",
}


def origin(asking: Asking) -> Page:
    """Of one column of one row, or of one argument or result of an action: who wrote it, from what, for whom."""
    if (which := asking.first("action")) is not None:
        return _of_action(asking, which)
    table, key, column = needed(asking, "table"), needed(asking, "key"), needed(asking, "column")
    at = asking.first("at")
    found = asking.row(table, key, (*asking.given(["at"]), ("limit", MOST_VERSIONS)))
    blamed = next((each for each in found["blame"] if each["column"] == column), None)
    if blamed is None and not any(column in ((each["after"] or each["before"]) or ()) for each in found["versions"]):
        raise NotFound(f"{table[:200]} has no column {column[:200]!r}")
    chain = _writers(asking, blamed) if blamed else []
    value = blamed["value"] if blamed else None
    return Page(
        "origin.html",
        {
            "title": f"Origin of {column}",
            "of": {"table": table, "key": key},
            "name": column,
            "at": at,
            "blamed": blamed,
            "value": value,
            "verb": _VERBS.get(blamed["operation"], blamed["operation"]) if blamed else None,
            "steps": [_step(asking, each, value) for each in chain],
            "up": row_address(table, key, **({"at": at} if at else {})),
            "earlier": _earlier(found["versions"], column),
        },
    )


def _of_action(asking: Asking, which: str) -> Page:
    """Of what an action was given, or gave back."""
    kind = "result" if asking.first("result") is not None else "argument"
    name, found = needed(asking, kind), asking.action(which)
    outcome, submitted = found.get("outcome") or {}, found.get("submitted") or {}
    held = (outcome.get("result"),) if kind == "result" else (outcome.get("arguments"), submitted.get("arguments"))
    there = [each for each in held if isinstance(each, Mapping) and name in each]
    if not there:
        raise NotFound(f"this action has no {kind} {name[:200]!r} that you may see")
    value = there[0][name]
    given = [each[name] for each in there[1:] if dumps(each[name]) != dumps(value)]
    own = [(kind, name), ("validated argument", name)] if kind == "argument" else []
    chain = _chain(asking, which)
    steps = [_step(asking, each, value, given) for each in chain]
    steps[0]["from"] = [each for each in steps[0]["from"] if (each["kind"], each["path"]) not in own]
    is_default = kind == "argument" and len(there) == 1 and name not in (submitted.get("arguments") or {})
    return Page(
        "origin.html",
        {
            "title": f"Origin of {name}",
            "of": {"action": found["action"], "kind": kind},
            "name": name,
            "at": None,
            "blamed": True,
            "value": value,
            "verb": "made" if kind == "result" else "taken" if is_default else "given to",
            "is_default": is_default,
            "given": given,
            "steps": steps,
            "up": f"/actions/{found['action_id']}",
            "earlier": None,
        },
    )


def _step(asking: Asking, found: Mapping[str, Any], value: Any, others: Sequence[Any] = ()) -> dict[str, Any]:
    """An action of the chain, and where in it the value stands, or one that became it."""
    places = from_where(found, value)
    for each in others:
        places += [place for place in from_where(found, each) if place not in places]
    made_by = None
    if not places and isinstance(value, str) and 0 < len(value) <= _LONGEST_MADE:
        with suppress(PermissionDenied):
            made_by = asking.generated(str(found["action_id"]), value)
    return {"found": found, "last": _last(found), "from": places, "made_by": made_by}


def _last(whole: Mapping[str, Any]) -> Any:
    return whole.get("outcome") or whole.get("bypass") or whole["submitted"]


def _writers(asking: Asking, blamed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Who gave a value, and who ran that: by its id, since a baseline lies at a position that another record has.

    Nobody where that is not on record, or not any more.
    """
    which = blamed["action_id"] or blamed["position"]
    with suppress(NotFound):
        return _chain(asking, str(which)) if which is not None else []
    return []


def _chain(asking: Asking, which: str) -> list[dict[str, Any]]:
    """An action, the one that ran it, and so on to the first."""
    found = [asking.action(which)]
    with suppress(NotFound):  # whom the caller may not see, he is not told of
        while (cause := _last(found[-1]).get("cause_id")) is not None and len(found) < _HIGHEST:
            found.append(asking.action(str(cause)))
    return found


def from_where(whole: Mapping[str, Any], value: Any) -> list[dict[str, Any]]:
    """All places in an action where an equal value stands: arguments as asked, outside answers, its result."""
    if value in (None, "", [], {}, MASKED, PERSONAL, UNKNOWN) or isinstance(value, bool):
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
        for path in _paths(held, value, _reading(value)):
            if kind == "validated argument" and any(each["path"] == path for each in found):
                continue
            found.append({"kind": kind, "path": path})
            if len(found) == _MOST:
                return found
    return found


def _paths(held: Any, wanted: Any, reading: str, path: str = "", deep: int = 0) -> Iterator[str]:
    """Where in a JSON value an equal one stands."""
    if deep > _DEEPEST:
        return
    if isinstance(held, (Mapping, list)):
        if path and held == wanted:
            yield path
            return
        for name, each in held.items() if isinstance(held, Mapping) else enumerate(held):
            step = f"[{name}]" if isinstance(held, list) else f".{name}" if path else str(name)
            yield from _paths(each, wanted, reading, f"{path}{step}", deep + 1)
    elif held is not None and not isinstance(held, bool) and _reading(held) == reading:
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
