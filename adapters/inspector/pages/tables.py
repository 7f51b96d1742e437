"""Tables: how far each is recorded, one as it was at a position, and what differs between two positions."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.inspector.asking import Asking, Pairs, address
from actionbus.adapters.inspector.pages.changes import change_told, origin_address, row_address, text_of_key
from actionbus.adapters.inspector.pages.rows import needed
from actionbus.adapters.inspector.rendering import Page

_ROWS: Final = 100
_LOOKED_AT: Final = 10
"""Pages of 200 rows that are looked through for a text."""
_DIFFERENCES: Final = "200"
_NEAR: Final = "8"
"""Changes of the table up to a position that are listed beside its rows."""


def tables(asking: Asking) -> Page:
    """All of them."""
    return Page("tables.html", {"title": "Tables", "recorded": asking.tables()})


def table(asking: Asking) -> Page:
    """A page of one table's rows, now or `at` a position; `text` narrows them."""
    name, at, text = needed(asking, "table"), asking.first("at"), asking.first("text")
    cursor = asking.given(["cursor"])
    found, rows, looked_at = _rows(asking, name, at, text, cursor)
    position = found["basis"]["position"]
    kept: Pairs = (("table", name), *asking.given(["text"]))
    same: Pairs = (*kept, *asking.given(["at"]))
    near = asking.journal([("touching", name), ("cursor", f"o{position}"), ("limit", _NEAR)])["records"]
    after = asking.journal([("touching", name), ("cursor", f"n{position}"), ("limit", "1")])
    then = (("at", at),) if at else ()
    return Page(
        "table.html",
        {
            "title": f"{name} at {position}",
            "found": found,
            "name": found["table"],
            "position": position,
            "at": at,
            "text": text,
            "rows": [_row(found, each, then) for each in rows],
            "looked_at": looked_at,
            "next": address("/table", [*same, ("cursor", found["more"])]) if found["more"] else None,
            "first": address("/table", same) if cursor else None,
            "near": near,
            "before": next((each["position"] for each in near if each["position"] < position), None),
            "later": after["records"][0]["position"] if after["records"] else None,
            "last": max(after["settled"], position),
            "was_at": lambda place: address("/table", (*kept, ("at", str(place)))),
        },
    )


def _rows(asking: Asking, name: str, at: str | None, text: str | None, cursor: Pairs) -> tuple[Any, list[Any], int]:
    """The last page that was asked for, the rows to be shown, and among how many they were found."""
    place = cursor or ((("at", at),) if at else ())
    if text is None:
        found = asking.state(name, (*place, ("limit", str(_ROWS))))
        return found, found["rows"], len(found["rows"])
    rows: list[Any] = []
    looked_at = 0
    for _ in range(_LOOKED_AT):
        found = asking.state(name, (*place, ("limit", "200")))
        looked_at += len(found["rows"])
        rows += [each for each in found["rows"] if _has(each, text)]
        if len(rows) >= _ROWS or not found["more"]:
            break
        place = (("cursor", found["more"]),)
    return found, rows, looked_at


def _has(row: dict[str, Any], text: str) -> bool:
    return any(text.casefold() in str(each).casefold() for each in row.values())


def _row(found: Any, row: dict[str, Any], then: Pairs) -> dict[str, Any]:
    key = text_of_key({each: row[each] for each in found["key"]})
    name = found["table"]

    def origin(column: str) -> str:
        return origin_address(name, key, column, **dict(then))

    where = row_address(name, key, **dict(then)) if key else None
    return {"row": row, "where": where, "origin": origin if key else None}


def diff(asking: Asking) -> Page:
    """The rows that differ between two points, `a` and `b`."""
    a, b, name = asking.first("a"), asking.first("b"), asking.first("table")
    asked = [("from", a), ("to", b), ("table", name), ("limit", _DIFFERENCES)]
    found = asking.diff([(each, value) for each, value in asked if value]) if a is not None else None
    upto = (b or str(found["basis"]["position"])) if found else None
    changes = [difference_told(each, before_at=a, after_at=upto) for each in found["rows"]] if found else []
    return Page("diff.html", {"title": "Diff", "a": a, "b": b, "table": name, "found": found, "changes": changes})


def difference_told(
    row: dict[str, Any], *, before_at: str | None = None, after_at: str | None = None
) -> dict[str, Any]:
    """A row that differs, as templates show a change."""
    before, after = row["before"], row["after"]
    names = {**(before or {}), **(after or {})}
    changed = [name for name in names if (before or {}).get(name) != (after or {}).get(name)]
    operation = "insert" if before is None else "delete" if after is None else "update"
    columns = changed if operation == "update" else list(names)
    told = {**row, "operation": operation, "columns": columns}
    return change_told(told, before_at=before_at, after_at=after_at)
