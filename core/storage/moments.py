"""Where times lie in the journal: positions, found by halving over its key. Used by `core.journal`.

A record's time and its position are drawn within one INSERT, so that both grow together but for records that are
written at the same moment, and for a clock that is set back. No index on times is asked: one by blocks is of no use in
the order of positions, and one by time would cost every action. So a time is looked for with some room beside it, and
what lies in that room is compared one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.values import payload

ROOM: Final = timedelta(seconds=10)
"""By so much the times of two records may contradict their positions, as when a clock is put right."""
_ROWS: Final = {
    "postgresql": ("json_array_elements(CAST(:{given} AS json)) r", "CAST(r.value ->> {place} AS bigint) AS {name}"),
    "sqlite": ("json_each(:{given}) r", "json_extract(r.value, '$[{place}]') AS {name}"),
}
_PROBE: Final = """SELECT m.middle, (SELECT j.position {upto}), (SELECT j.recorded_at {upto}) FROM {numbers} m"""
_UPTO: Final = "FROM {journal} j WHERE j.position <= m.middle ORDER BY j.position DESC LIMIT 1"


class Moments:
    """Finds positions in the journal of one database."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def before(self, connection: Connection, moments: Sequence[datetime], end: int) -> list[int]:
        """For each aware time a position up to `end`, at or before which records are older, and beyond it are not.

        All of them are halved at once: about as many statements as the journal's length has binary digits, of which
        each looks up one record for every time.
        """
        ranges = [[0, end] for _ in moments]
        while open_ones := [number for number, (low, high) in enumerate(ranges) if low < high]:
            middles = {number: (ranges[number][0] + ranges[number][1] + 1) // 2 for number in open_ones}
            seen = self._seen(connection, sorted(set(middles.values())))
            for number, middle in middles.items():
                position, recorded = seen[middle]
                if position is None or self._backend.utc(recorded) < moments[number]:
                    ranges[number][0] = middle
                else:
                    ranges[number][1] = position - 1
        return [low for low, _ in ranges]

    def _seen(self, connection: Connection, middles: Sequence[int]) -> dict[int, tuple[int | None, Any]]:
        """The last record at or before each of these positions, and its time."""
        upto = _UPTO.format(journal=in_text(self._backend.journal_name))
        probe = _PROBE.format(upto=upto, numbers=numbers(self._backend.engine.dialect.name, "middles", "middle"))
        rows = connection.execute(text(probe), {"middles": payload.dumps([[each] for each in middles])})
        return {middle: (position, recorded) for middle, position, recorded in rows}


def moved(moment: datetime, room: timedelta) -> datetime:
    """A time with room beside it, at the ends of all times without."""
    try:
        return moment + room
    except OverflowError:
        return moment


def numbers(dialect: str, given: str, *names: str) -> str:
    """SQL of a table of whole numbers with these columns: `given` is the parameter, a JSON list of lists."""
    source, column = _ROWS[dialect]
    columns = ", ".join(column.format(place=place, name=name) for place, name in enumerate(names))
    return f"(SELECT {columns} FROM {source.format(given=given)})"
