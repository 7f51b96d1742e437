"""Pages of jobs: bisect, verify, what if, preview, revert. Each is the command that it shows, so it can be copied."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.http.job_kinds import FIELDS
from actionbus.adapters.http.refusals import NotFound
from actionbus.adapters.inspector.asking import Asking
from actionbus.adapters.inspector.pages.reports import junit_of, report_of, text_of
from actionbus.adapters.inspector.rendering import Attachment, Goto, Page

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
            "has_junit": junit_of(found, lambda _: "") is not None,
        },
    )


def report(asking: Asking, name: str) -> str:
    """What it found, to be sent to somebody."""
    return text_of(asking.job(name), asking.printed_by_job(name))


def junit_report(asking: Asking, name: str) -> Attachment:
    """What a verify found, as JUnit XML for CI. Raises NotFound for what is no verify, or has not ended."""
    page = asking.links.page
    found = junit_of(asking.job(name), lambda action_id: page(action_id) or asking.here(f"/actions/{action_id}"))
    if found is None:
        raise NotFound("JUnit reports are of verifies that have ended")
    return Attachment(found, "application/xml; charset=us-ascii", f"verify-{name}.xml")


def cancel(asking: Asking, name: str) -> Goto:
    """End one."""
    asking.cancel_job(name)
    return Goto(f"/jobs/{name}")


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "is_running": found["state"] == "running"}
