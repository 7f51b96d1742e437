"""Pages of jobs: bisect, verify, what if, preview, revert. Each is the command that it shows, so it can be copied."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.http.job_kinds import FIELDS
from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.pages.reports import report_of, text_of
from actionbus.adapters.inspector.rendering import Goto, Page

_FILLED_IN: Final = ("id", "from", "to", "sql", "action", "table", "key", "column", "value")


def jobs(asking: Asking) -> Page:
    """The latest jobs, and forms to begin others."""
    return Page(
        "jobs.html",
        {
            "title": "Jobs",
            "jobs": [_shown(each) for each in asking.jobs()],
            "given": {name: asking.first(name) or "" for name in _FILLED_IN},
            "is_operator": asking.runner.is_operator,
        },
    )


def begin(asking: Asking) -> Goto:
    """Begin a job of what a form says."""
    given = {name: value for name, value in asking.form if value.strip() and name in FIELDS}
    return Goto(f"/jobs/{asking.begin_job(given)['id']}")


def job(asking: Asking, name: str) -> Page:
    """How far one is, and what it printed."""
    found = asking.job(name)
    template = "job_told.html" if asking.first("part") == "job" else "job.html"
    return Page(
        template,
        {
            "title": f"{found['kind']} {found['state']}",
            "job": _shown(found),
            "report": report_of(found),
        },
    )


def report(asking: Asking, name: str) -> str:
    """What it found, to be sent to somebody."""
    return text_of(asking.job(name), asking.printed_by_job(name))


def cancel(asking: Asking, name: str) -> Goto:
    """End one."""
    asking.cancel_job(name)
    return Goto(f"/jobs/{name}")


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "is_running": found["state"] == "running"}
