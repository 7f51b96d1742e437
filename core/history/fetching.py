"""Rows from a cursor of PostgreSQL, piece by piece: while one is looked at, the server makes the next. For the images.

All goes over one connection, on which one statement runs at a time: whoever wants another waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from actionbus.core.history.images import STRETCH

_AT_ONCE: Final = 10 * STRETCH
"""Rows that the driver holds; few of them at a time become Python's."""


class Fetching:
    """Fetches over the connection that these cursors of the driver are of."""

    def __init__(self, make_cursor: Callable[[], Any]) -> None:
        self._make_cursor = make_cursor
        self._ahead: ThreadPoolExecutor | None = None
        self._coming: Future[Any] | None = None

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Meanwhile, what is likely to be asked for next is fetched before; nothing is under way afterwards."""
        try:
            with ThreadPoolExecutor(1, "actionbus-history") as self._ahead:
                yield
        finally:
            self._ahead = None

    def cursor(self) -> Any:
        """One for a statement; waits for what is under way."""
        if self._coming is not None:
            wait([self._coming])
            self._coming = None
        return self._make_cursor()

    def pieces(self, name: str, size: int) -> Iterator[list[Sequence[Any]]]:
        """All that a cursor of the server holds; in the first piece, which may do, no more than so many rows."""
        shown, other, fetch = self._make_cursor(), self._make_cursor(), f"FETCH {_AT_ONCE} FROM {name}"
        coming, is_first = None, True
        shown.execute(f"FETCH {size} FROM {name}")
        while found := shown.rowcount:
            if self._ahead is not None and found == size and not is_first:
                coming = self._begun(self._ahead, other, fetch)
            for _ in range(0, found, STRETCH):
                yield shown.fetchmany(STRETCH)  # held by nobody here: Python's collector would look at them
            if found < size:
                return
            if coming is None:
                other.execute(fetch)
            else:
                coming.result()
            shown, other, coming, is_first, size = other, shown, None, False, _AT_ONCE

    def _begun(self, ahead: ThreadPoolExecutor, cursor: Any, sql: str) -> Future[Any]:
        begun = Event()

        def run() -> None:
            begun.set()
            cursor.execute(sql)

        self._coming = ahead.submit(run)
        begun.wait()  # else this thread would go on, and the other not come to ask before it rests
        return self._coming
