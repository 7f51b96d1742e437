"""What led to what: the actions above one, those below it, and all that happened in the same request."""

from __future__ import annotations

from typing import Final

from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.rendering import Page

_IN_ONE_REQUEST: Final = "100"


def causes(asking: Asking, which: str) -> Page:
    """The tree around an action: its causes up to the first, what it caused, and its request."""
    found, around = asking.action(which), asking.causes(which)
    last = found.get("outcome") or found.get("bypass") or found["submitted"]
    first = asking.action(around["ancestors"][0]["action_id"]) if around["ancestors"] else found
    together = asking.journal([("correlation", last["correlation_id"]), ("limit", _IN_ONE_REQUEST)])
    return Page(
        "causes.html",
        {
            "title": f"Causes of {last['position']}",
            "found": found,
            "last": last,
            "around": around,
            "context": first.get("submitted", {}).get("context"),
            "together": together["records"][::-1],
            "has_more": together["older"] is not None,
        },
    )
