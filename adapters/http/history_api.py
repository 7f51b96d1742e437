"""HistoryApi answers `/history…`: what rows were, told from recorded images. A framework's adapter routes to it."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

from actionbus.adapters.http.answer import Answer, shown
from actionbus.adapters.http.cursors import Cursors, Seals
from actionbus.adapters.http.journal_access import access_of, require_payloads
from actionbus.adapters.http.journal_asked import one_of
from actionbus.adapters.http.masks import Masks
from actionbus.adapters.http.reading import refuse_others, whole_number
from actionbus.adapters.http.refusals import Malformed, NotFound
from actionbus.adapters.http.request import Request
from actionbus.core import ActionRunner, Bus, HistoryArchived, HistoryError
from actionbus.core.history.answers import Basis, TableBasis
from actionbus.core.values.change import Columns
from actionbus.core.values.payload import dumps, loads
from actionbus.core.values.points import point_of

MOST_ROWS: Final = 200
MOST_READ: Final = 20_000
"""Changes that are read for one answer; of more, less is to be asked for."""
_READABLE: Final = (str, int, float, UUID, Decimal, date, datetime)
"""Values of a key that read back from their text."""


class HistoryApi:
    """Every method raises what `problems.explain` tells; PermissionDenied for whom the checkpoint grants nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seals = Seals(bus)

    def tables(self, runner: ActionRunner, request: Request) -> Answer:
        """Which tables are recorded, since when, and what is missing."""
        refuse_others(request, {"at"})
        masks = self._masks(runner)
        at = self._point(request, "at")
        with _told():
            basis = self._bus.history.basis(at)
        return shown({**_basis(basis, masks), "tables": [_whole_basis(each, masks) for each in basis.tables]})

    def status(self, runner: ActionRunner, request: Request) -> Answer:
        """Whether every change of every table that is to be recorded is recorded now, and what is not."""
        refuse_others(request, ())
        access_of(runner, self._bus)
        with _told():
            basis = self._bus.history.basis()
        problems = {each.table: each.problems for each in basis.tables if each.problems}
        is_whole = not problems and not basis.unrecorded and not basis.gaps
        return shown(
            {
                "position": basis.position,
                "is_whole": is_whole,
                "recorded": [each.table for each in basis.tables],
                "unrecorded": basis.unrecorded,
                "problems": problems,
                "gaps": len(basis.gaps),
            }
        )

    def row(self, runner: ActionRunner, request: Request, table: str, key: str) -> Answer:
        """All that became of one row, the last first, and who gave each column its value."""
        refuse_others(request, {"at", "limit"})
        limit = whole_number(request, "limit", 50, MOST_ROWS)
        masks = self._masks(runner, table)
        require_payloads(masks.access, "to ask by a row's key")
        at = self._point(request, "at")
        with _told():
            found = self._bus.history.row(table, key, at, most=MOST_READ)
        if not found.changes:
            raise NotFound(
                f"no row {key[:200]!r} of {table[:200]!r} is on record up to position {found.basis.position}"
            )
        name = found.changes[0].table
        newest = found.changes[: -limit - 1 : -1]
        return shown(
            {
                "table": name,
                "versions": [masks.change(each) | masks.who(each.who) for each in newest],
                "has_more": len(found.changes) > limit,
                "blame": [
                    {
                        "column": each.column,
                        "value": (masks.row(name, {each.column: each.value}) or {})[each.column],
                        "operation": each.change.operation,
                        **masks.who(each.change.who),
                    }
                    for each in found.columns
                ],
                "basis": _basis(found.basis, masks),
            }
        )

    def state(self, runner: ActionRunner, request: Request, table: str) -> Answer:
        """A page of a table as it was, in the order of its key."""
        refuse_others(request, {"at", "limit", "cursor"})
        limit = whole_number(request, "limit", 50, MOST_ROWS)
        cursor = one_of(request, "cursor")
        masks = self._masks(runner, table)
        if cursor is not None:
            require_payloads(masks.access, "to go on from a row's key")
        cursors = self._seals.of(runner.actor, f"history of {table}")
        place = _place(cursors, cursor)
        at = self._point(request, "at") if place is None else self._settled(place[0])
        with (
            _told(),
            self._bus.history.streamed(
                table, at, after=place and place[1], limit=limit + 1, most=MOST_READ
            ) as streamed,
        ):
            ((name, rows),) = list(islice(((name, list(rows)) for name, rows in streamed), 1))
        page, has_more = rows[:limit], len(rows) > limit
        (told,) = streamed.basis.tables
        more = None
        if has_more and streamed.is_ordered and masks.access.payloads:
            more = _cursor(cursors, streamed.basis.position, told.key, page[-1])
        return shown(
            {
                "table": name,
                "key": told.key,
                "columns": told.columns,
                "rows": [masks.row(name, each) for each in page],
                "more": more,
                "has_more": has_more,
                "is_ordered": streamed.is_ordered,
                "basis": _basis(streamed.basis, masks),
            }
        )

    def diff(self, runner: ActionRunner, request: Request) -> Answer:
        """The rows that differ between two points."""
        refuse_others(request, {"from", "to", "table", "limit"})
        table = one_of(request, "table")
        if request.first("from") is None:
            raise Malformed("say from which point on: a position, a time, an action's id", {"from": ["is missing"]})
        limit = whole_number(request, "limit", 50, MOST_ROWS)
        masks = self._masks(runner, table)
        low, high = self._point(request, "from"), self._point(request, "to")
        with _told():
            found = self._bus.history.diff(low, high, table, most=MOST_READ)
        rows = [
            {
                "table": each.table,
                "key": masks.row(each.table, each.key),
                "before": masks.row(each.table, each.before),
                "after": masks.row(each.table, each.after),
            }
            for each in found.rows[:limit]
        ]
        return shown({"rows": rows, "has_more": len(found.rows) > limit, "basis": _basis(found.basis, masks)})

    def _point(self, request: Request, name: str) -> int:
        """The position of a point in history; the end, unless one is given. Raises Malformed, NotFound."""
        given = one_of(request, name)
        try:
            point = None if given is None else point_of(given)
        except (ValueError, OverflowError):
            told = "must be a position, an ISO 8601 time, an action's id, start or end"
            raise Malformed(f"{name} {told}", {name: [told]}) from None
        with _told():
            position = self._bus.history.position(point)
        return min(position, self._bus.journal.settled()) if isinstance(point, datetime) else self._settled(position)

    def _settled(self, position: int) -> int:
        """A position that need not be waited for, as the history does otherwise. Raises NotFound."""
        if position > (end := self._bus.journal.settled()):
            raise NotFound(f"there is no settled position {position} yet; the journal ends at {end}")
        return position

    def _masks(self, runner: ActionRunner, table: str | None = None) -> Masks:
        return Masks(self._bus, access_of(runner, self._bus, table=table))


@contextmanager
def _told() -> Iterator[None]:
    """What the history has nothing to tell of is not found."""
    try:
        yield
    except HistoryArchived:
        raise NotFound("that lies before the beginning of history here: it is archived, or was pruned") from None
    except HistoryError as error:
        raise NotFound(str(error)[:500]) from None


def _cursor(cursors: Cursors, position: int, names: Sequence[str], row: Columns) -> str | None:
    """Where the next page begins; None for a key that cannot be told in a text."""
    values = [row[name] for name in names]
    if not all(isinstance(each, _READABLE) for each in values):
        return None
    text = dumps([position, [str(each) for each in values]])
    return cursors.sealed(urlsafe_b64encode(text.encode()).decode())


def _place(cursors: Cursors, text: str | None) -> tuple[int, tuple[str, ...]] | None:
    """What `_cursor` was given. Raises Malformed."""
    if text is None:
        return None
    position, parts = loads(urlsafe_b64decode(cursors.opened(text)).decode())
    return position, tuple(parts)


def _basis(basis: Basis, masks: Masks) -> dict[str, Any]:
    """What an answer rests on."""
    return {
        "position": basis.position,
        "tables": {each.table: _table_basis(each, masks) for each in basis.tables},
        "unrecorded": basis.unrecorded,
        "bypasses": basis.bypasses,
        "waiting": basis.waiting,
    }


def _table_basis(table: TableBasis, masks: Masks) -> dict[str, Any]:
    gaps = [
        {"key": masks.row(table.table, each.key), "position": each.position, "why": each.why} for each in table.gaps
    ]
    return {
        "since": table.since,
        "since_position": table.since_position,
        "withheld": table.withheld,
        "gaps": gaps[:MOST_ROWS],
        "problems": table.problems,
        "unrecorded_since": table.unrecorded_since,
    }


def _whole_basis(table: TableBasis, masks: Masks) -> dict[str, Any]:
    return {"table": table.table, "key": table.key, "columns": table.columns, **_table_basis(table, masks)}
