"""One action: what was asked, what it became, what came of it, rows before and after, calls, causes; copied as."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any, Final

from actionbus.adapters.inspector.asking import Asking, address
from actionbus.adapters.inspector.pages.changes import changes_told
from actionbus.adapters.inspector.rendering import Page
from actionbus.adapters.inspector.values import MASKED, PERSONAL, seen
from actionbus.core.values.payload import dumps

_APART: Final = frozenset({"arguments", "result", "error", "calls", "context"})


def action(asking: Asking, which: str) -> Page:
    """The action of an id, or of one of its records' positions."""
    found = asking.action(which)
    outcome = found.get("outcome") or found.get("bypass")
    submitted = found.get("submitted")
    last = outcome or submitted
    position = last["position"]
    return Page(
        "panel.html" if asking.first("part") == "panel" else "action.html",
        {
            "title": f"{seen(found['action']) or 'past the gateway'} at {position}",
            **told(asking, found),
            "before": _neighbour(asking, f"o{position - 1}"),
            "after": _neighbour(asking, f"n{position}"),
            "copies": _copies(found, last),
        },
    )


def told(asking: Asking, found: Mapping[str, Any]) -> dict[str, Any]:
    """What templates show of an action."""
    outcome, submitted = found.get("outcome") or found.get("bypass"), found.get("submitted")
    last = outcome or submitted or {}
    return {
        "found": found,
        "outcome": outcome,
        "submitted": submitted,
        "last": last,
        "arguments": _arguments((submitted or {}).get("arguments"), (outcome or {}).get("arguments")),
        "results": _results((outcome or {}).get("result")),
        "changes": changes_told(found["changes"], [last.get("position")] * len(found["changes"])),
        "onward": asking.links.onward(found),
        "whence": lambda kind, name: address("/origin", [("action", str(found["action_id"])), (kind, name)]),
    }


def _arguments(asked: Any, validated: Any) -> list[dict[str, Any]]:
    """Each argument as it was asked for and as it was validated, and whether that is another value."""
    if not isinstance(asked, Mapping) or asked == MASKED:
        return [{"name": "arguments", "asked": asked, "validated": validated, "how": "same"}] if asked else []
    became = validated if isinstance(validated, Mapping) and validated != MASKED else {}
    rows = []
    for name in {**asked, **became}:
        is_asked, is_there = name in asked, name in became
        same = is_asked and is_there and dumps(asked[name]) == dumps(became[name])
        how = "same" if same else "default" if not is_asked else "changed" if is_there else "asked"
        rows.append({"name": name, "asked": asked.get(name), "validated": became.get(name), "how": how})
    return rows


def _results(result: Any) -> list[tuple[str, Any]]:
    """A result's values by name; none for one that has no names, or is masked."""
    return list(result.items()) if isinstance(result, Mapping) and result not in (MASKED, PERSONAL) else []


def _neighbour(asking: Asking, cursor: str) -> int | None:
    beside = asking.journal([("cursor", cursor), ("limit", "1")])["records"]
    return beside[0]["position"] if beside else None


def _copies(found: Mapping[str, Any], last: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same action as something else: what to paste where."""
    submitted = found.get("submitted") or {}
    arguments, name, actor = submitted.get("arguments"), found["action"], submitted.get("actor")
    copies = [("show", f"actionbus show {last['position']}")]
    if not submitted:
        return copies
    if isinstance(arguments, Mapping) and MASKED not in (arguments, *arguments.values()):
        text, by = dumps(arguments), f"--actor {quote(actor)} " if actor else ""
        copies += [
            ("command line", f"actionbus run {quote(name)} {by}--arguments {quote(text)}"),
            (
                "curl",
                "curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' "
                f"-d {quote(text)} http://127.0.0.1:8000/actions/{quote(name)}",
            ),
            ("Python", f"runner.execute({name!r}, {arguments!r})"),
        ]
    return [
        *copies,
        ("pytest", f"actionbus replay export-test {found['action_id']}"),
        ("debugger", f"actionbus replay debug {found['action_id']}"),
        ("tables before it", f"actionbus replay open --at {max(0, last['position'] - 1)}"),
        ("SQL", f"SELECT * FROM journal WHERE action_id = '{found['action_id']}' ORDER BY position;"),
    ]
