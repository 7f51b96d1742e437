"""A row's page: its history, and who gave each of its columns the value that it has."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.http.refusals import Malformed
from actionbus.adapters.inspector.asking import Asking, address
from actionbus.adapters.inspector.pages.changes import changes_told, origin_address, row_address
from actionbus.adapters.inspector.rendering import Page

MOST_VERSIONS: Final = "100"


def needed(asking: Asking, name: str) -> str:
    """A parameter without which there is no page. Raises Malformed."""
    found = asking.first(name)
    if found is None:
        raise Malformed(f"the address lacks {name}=", {name: ["is needed"]})
    return found


def row(asking: Asking) -> Page:
    """The row of a table and a key, as it is, or as it was `at` a position."""
    table, key, at = needed(asking, "table"), needed(asking, "key"), asking.given(["at"])
    found = asking.row(table, key, (*at, ("limit", MOST_VERSIONS)))
    versions = changes_told(found["versions"], [each["position"] for each in found["versions"]], newest_first=True)
    then = asking.first("at")
    return Page(
        "row.html",
        {
            "title": f"{table} {key}",
            "table": table,
            "key": key,
            "at": then,
            "found": found,
            "versions": versions,
            "is_there": versions[0]["after"] is not None,
            "columns": [
                {**each, "origin": origin_address(table, key, each["column"], at=then)} for each in found["blame"]
            ],
            "then": lambda position: row_address(table, key, at=str(position)),
            "now": row_address(table, key),
            "older": row_address(table, key, at=str(versions[-1]["position"] - 1))
            if _has_older(found, versions)
            else None,
            "touching": address("/", [("touching", f"{table}:{key}")]),
            "whole_table": address("/table", [("table", table), *at]),
        },
    )


def _has_older(found: dict[str, Any], versions: list[dict[str, Any]]) -> bool:
    return bool(found["has_more"] and versions[-1]["position"])
