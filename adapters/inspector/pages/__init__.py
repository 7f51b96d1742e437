"""The inspector's pages: which address shows what. Used by `inspector.site`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from actionbus.adapters.http.answer import StreamedAnswer
from actionbus.adapters.inspector.pages.action import action
from actionbus.adapters.inspector.pages.causes import causes
from actionbus.adapters.inspector.pages.jobs import begin, cancel, job, jobs, junit_report, report
from actionbus.adapters.inspector.pages.operating import about, projections, queue
from actionbus.adapters.inspector.pages.origins import origin
from actionbus.adapters.inspector.pages.rows import row
from actionbus.adapters.inspector.pages.tables import diff, table, tables
from actionbus.adapters.inspector.pages.tail import tail
from actionbus.adapters.inspector.pages.timeline import go, timeline
from actionbus.adapters.inspector.rendering import Attachment, Goto, Page

Given = Page | Goto | Attachment | StreamedAnswer | str | None
"""What a view gives: a page, where to go, a file, a stream, a text, or nothing."""
ROUTES: Final[dict[str, Callable[..., Given]]] = {
    "/": timeline,
    "/go": go,
    "/actions/<which>": action,
    "/causes/<which>": causes,
    "/row": row,
    "/origin": origin,
    "/tables": tables,
    "/table": table,
    "/diff": diff,
    "/projections": projections,
    "/queue": queue,
    "/about": about,
}
"""By the rule of its path below the root, the view."""
OTHERS: Final[dict[str, Callable[..., Given]]] = {
    "/tail": tail,
    "/jobs": jobs,
    "/jobs/<name>": job,
    "/jobs/<name>/report": report,
    "/jobs/<name>/junit": junit_report,
}
"""What does not end by itself, and what takes more than to read the journal."""
CHANGES: Final[dict[str, Callable[..., Goto]]] = {"/jobs": begin, "/jobs/<name>/cancel": cancel}
"""What a form begins or ends."""
