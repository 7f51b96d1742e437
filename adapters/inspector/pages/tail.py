"""The live tail: records as server-sent events, each the row that the timeline has of it. Read by the page's script.

It is the read API's stream, whose records become rows: so it resumes by its ids without a gap or a double.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from actionbus.adapters.http.answer import Stream, StreamedAnswer
from actionbus.adapters.http.journal_asked import FILTERS
from actionbus.adapters.http.refusals import Busy
from actionbus.adapters.inspector.asking import Asking, address
from actionbus.adapters.inspector.rendering import Page, rendered
from actionbus.core.values.payload import loads

_DATA: Final = b"data: "
FOLLOWED: Final = FILTERS - {"until"}


def tail(asking: Asking) -> StreamedAnswer | None:
    """Rows as they come; nothing where all places are taken, at which a browser asks for no more of it."""
    filters = asking.given(FOLLOWED)
    try:
        found = asking.tail((*filters, *asking.given(["after"])))
    except Busy:
        return None
    return StreamedAnswer(_Rows(found.chunks, asking, filters), found.content_type, found.headers)


class _Rows:
    def __init__(self, events: Stream, asking: Asking, filters: tuple[tuple[str, str], ...]) -> None:
        self._events, self._asking, self._filters = events, asking, filters

    def __iter__(self) -> Iterator[bytes]:
        """Event after event."""
        return map(self._with_row, self._events)

    def close(self) -> None:
        """Give back what the stream holds."""
        self._events.close()

    def _with_row(self, event: bytes) -> bytes:
        lines = event.split(b"\n")
        return b"\n".join(self._row(each) if each.startswith(_DATA) else each for each in lines)

    def _row(self, line: bytes) -> bytes:
        record = loads(line.removeprefix(_DATA).decode())
        page = Page("tail_row.html", {"record": record, "linked": self._linked})
        return b"\n".join(_DATA + each for each in rendered(page, root=self._asking.root).splitlines() if each.strip())

    def _linked(self, which: int) -> str:
        return address("/", (*self._filters, ("sel", str(which))))
