"""Pages for whoever operates: projections, the queue, and what is recorded since when."""

from __future__ import annotations

from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.rendering import Page


def projections(asking: Asking) -> Page:
    """Where each projection is."""
    return Page("projections.html", {"title": "Projections", "projections": asking.looks.projections()})


def queue(asking: Asking) -> Page:
    """Queued actions that have no outcome yet."""
    return Page("queue.html", {"title": "Queue", **asking.looks.runs()})


def about(asking: Asking) -> Page:
    """What is recorded, since when, and what is missing."""
    oldest = asking.journal([("cursor", "n0"), ("limit", "1")])["records"]
    return Page(
        "about.html",
        {
            "title": "About",
            "about": asking.looks.about(),
            "recorded": asking.tables(),
            "oldest": oldest[0] if oldest else None,
        },
    )
