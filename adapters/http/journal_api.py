"""JournalApi answers `/journal…`: pages of records, one action whole. A framework's adapter routes requests to it."""

from __future__ import annotations

import threading
from typing import Any, Final

from actionbus.adapters.http.answer import Answer, StreamedAnswer, shown
from actionbus.adapters.http.cursors import JournalPlace, place_of
from actionbus.adapters.http.journal_access import Access, VisibleActions, access_of, require_payloads
from actionbus.adapters.http.journal_asked import (
    FILTERS,
    MOST_RECORDS,
    after_of,
    filter_of,
    one_of,
)
from actionbus.adapters.http.journal_events import Events
from actionbus.adapters.http.masks import Masks
from actionbus.adapters.http.reading import refuse_others, whole_number
from actionbus.adapters.http.refusals import Malformed, NotFound
from actionbus.adapters.http.request import Request
from actionbus.adapters.http.waiting import Waits
from actionbus.core import ActionRunner, Bus, JournalFilter, PermissionDenied, Record
from actionbus.core.browsing.causes import Node, tree
from actionbus.core.browsing.density import MOST_BUCKETS, Density, density
from actionbus.core.browsing.facets import facets
from actionbus.core.browsing.generated import generated
from actionbus.core.browsing.pages import Page, page
from actionbus.core.browsing.whole import Whole, whole
from actionbus.core.values.journal_filter import ANY_TABLE
from actionbus.core.values.points import position_of

BRIEF: Final = 2_000
"""Characters of JSON of an argument list or a result that a list of records shows."""
MOST_DEPTH: Final = 10
MOST_WIDTH: Final = 100
MOST_CHANGES: Final = 200
"""Changes of rows that are shown of one action."""


class JournalApi:
    """Every method raises what `problems.explain` tells; PermissionDenied for whom the checkpoint grants nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def page(self, runner: ActionRunner, request: Request) -> Answer:
        """The newest records, or those beside a cursor."""
        refuse_others(request, {*FILTERS, "limit", "cursor"})
        limit = whole_number(request, "limit", 50, MOST_RECORDS)
        where, place = filter_of(request), place_of(one_of(request, "cursor"))
        access = self._access(runner, where)
        before = place.position if place and place.is_older else None
        after = place.position if place and not place.is_older else None
        found = page(
            self._bus.journal, where, before=before, after=after, limit=limit, brief=BRIEF, opened=access.personal
        )
        masks = Masks(self._bus, access)
        return shown({"records": [masks.record(each) for each in found.records], **_around(found, where)})

    def _access(self, runner: ActionRunner, where: JournalFilter) -> Access:
        """What the caller may see of records that are narrowed so."""
        touching = where.touching
        access = access_of(
            runner,
            self._bus,
            action=where.one("action"),
            actor=where.one("actor"),
            table=touching[0] if touching and touching[0] != ANY_TABLE else None,
        )
        if touching is not None and len(touching) > 1:
            require_payloads(access, "to ask by a row's key")
        if where.text is not None:
            require_payloads(access, "to search in arguments and results")
        return access

    def action(self, runner: ActionRunner, which: str) -> Answer:
        """One action whole, by its id or the position of one of its records."""
        submitted, access = self._that_he_may_see(runner, which)
        found = whole(self._bus.journal, submitted.action_id, most=MOST_CHANGES, opened=access.personal)
        return shown(self._whole(found, Masks(self._bus, access), VisibleActions(runner, self._bus)))

    def generated(self, runner: ActionRunner, request: Request, which: str) -> Answer:
        """Whether an action gave itself a value, and by what; of those who may see values."""
        refuse_others(request, {"value"})
        if (value := one_of(request, "value")) is None:
            raise Malformed("say which value", {"value": ["is missing"]})
        found, access = self._that_he_may_see(runner, which)
        require_payloads(access, "to ask where a value came from")
        submitted, *rest = self._bus.journal.of_action(found.action_id, opened=False)
        return shown({"generated": generated(submitted, rest[-1], value) if rest else None})

    def stream(
        self, runner: ActionRunner, request: Request, waits: Waits, stopping: threading.Event | None
    ) -> StreamedAnswer:
        """Records as they come, from where the client left off. It takes a place among those that may wait."""
        refuse_others(request, {*FILTERS, "after"} - {"until"})
        where, after = filter_of(request), after_of(request)
        access = self._access(runner, where)
        if after is None:
            after = self._bus.journal.settled()
        elif after > self._bus.journal.last():
            raise Malformed("there is no such position: this is another journal, or one that was restored; begin anew")
        elif after < (begins := self._bus.journal.begins.position()):
            raise Malformed(f"history before position {begins} is archived; begin beyond it")
        masks = Masks(self._bus, access)

        def next_page(position: int) -> Page:
            return page(self._bus.journal, where, after=position, limit=100, brief=BRIEF, opened=access.personal)

        waits.take()
        events = Events(next_page, masks.record, after, stopping or threading.Event(), waits.give_back)
        return StreamedAnswer(events, "text/event-stream", {"X-Accel-Buffering": "no"})

    def causes(self, runner: ActionRunner, request: Request, which: str) -> Answer:
        """What led to an action, and the tree of what it led to."""
        refuse_others(request, {"depth", "width"})
        depth, width = whole_number(request, "depth", 3, MOST_DEPTH), whole_number(request, "width", 20, MOST_WIDTH)
        submitted = self._found(which)
        nothing = self._nothing(which)
        seen = VisibleActions(runner, self._bus)
        if submitted is None or not seen.may(submitted):
            raise nothing
        found = tree(self._bus.journal, submitted.action_id, depth=depth, width=width)
        ancestors = [gist(each) for each in found.ancestors if seen.may(each)]
        return shown(
            {
                "ancestors": ancestors,
                "has_more_ancestors": found.has_more_ancestors or len(ancestors) < len(found.ancestors),
                "tree": _told(found.root, seen),
            }
        )

    def density(self, runner: ActionRunner, request: Request) -> Answer:
        """How much happened when."""
        refuse_others(request, {*FILTERS, "buckets"})
        where = filter_of(request)
        if not {name for name, _ in request.query} - {"since", "until", "buckets"}:
            where = JournalFilter(since=where.since, until=where.until)  # all kinds of records, as positions count them
        buckets = whole_number(request, "buckets", 100, MOST_BUCKETS)
        self._access(runner, where)
        found = density(self._bus.journal, where, buckets)
        told = [
            {"since": each.since, "until": each.until, "records": each.records, "statuses": each.statuses}
            for each in found.buckets
        ]
        return shown({"buckets": told, **_how_exact(found)})

    def facets(self, runner: ActionRunner, request: Request) -> Answer:
        """Which values there are to filter by."""
        refuse_others(request, FILTERS)
        where = filter_of(request)
        self._access(runner, where)
        found = facets(self._bus.journal, where)
        told = {
            name: [{"value": value, "count": count} for value, count in counts] for name, counts in found.counts.items()
        }
        return shown({"facets": told, "looked_at": {"beyond": found.low, "upto": found.high}})

    def _that_he_may_see(self, runner: ActionRunner, which: str) -> tuple[Record, Access]:
        """An action's first record and what of it the caller may see. Raises NotFound for one that he may not."""
        nothing = self._nothing(which)
        if (found := self._found(which)) is None:
            raise nothing
        try:
            return found, access_of(runner, self._bus, action=found.action, actor=found.actor)
        except PermissionDenied:
            raise nothing from None

    def _found(self, which: str) -> Record | None:
        journal, position = self._bus.journal, position_of(which)
        if position is not None:
            return journal.at(position, opened=False)
        try:
            return next(iter(journal.of_action(which, opened=False)), None)
        except ValueError:
            return None

    def _nothing(self, which: str) -> NotFound:
        """What is told of an action that is not there, not to be seen, or archived: to everybody the same."""
        begins, position = self._bus.journal.begins.position(), position_of(which)
        is_archived = position is not None and position < begins
        more = f"; history before position {begins} is archived" if is_archived else ""
        return NotFound(f"there is no action {which[:100]} that you may see{more}")

    def _whole(self, found: Whole, masks: Masks, seen: VisibleActions) -> dict[str, Any]:
        first = found.records[0]
        run = None if found.outcome else self._bus.runs.get(first.action_id)
        state = run.state if run else "done" if found.outcome else "running"
        told: dict[str, Any] = {"action_id": first.action_id, "action": first.action, "state": state}
        told |= {each.kind: masks.record(each) for each in found.records}
        told["changes"] = [masks.change(each) for each in found.changes]
        told |= {"has_more_changes": found.has_more_changes, "without_history": found.without_history}
        caused = [each for each in found.caused if seen.may(each)]
        told["caused"] = [gist(each) for each in caused]
        return told | {"has_more_caused": found.has_more_caused or len(caused) < len(found.caused)}


def gist(record: Record) -> dict[str, Any]:
    """What leads to another action."""
    return {
        "action_id": record.action_id,
        "action": record.action,
        "actor": record.actor,
        "kind": record.kind,
        "status": record.status,
        "position": record.position,
        "recorded_at": record.recorded_at,
    }


def _told(node: Node, seen: VisibleActions) -> dict[str, Any]:
    below = [each for each in node.caused if seen.may(each.record)]
    has_more = node.has_more or len(below) < len(node.caused)
    return gist(node.record) | {"caused": [_told(each, seen) for each in below], "has_more": has_more}


def _how_exact(found: Density) -> dict[str, Any]:
    if found.is_exact:
        return {"is_exact": True}
    if found.estimated_from is not None:
        return {"is_exact": False, "estimated_from": found.estimated_from, "counted_beyond": found.counted_beyond}
    return {"is_exact": False, "counted_up_to": found.limit}


def _around(found: Page, where: JournalFilter) -> dict[str, Any]:
    """Where a page lies, and where to go on. `newer` is always there: there may be newer ones a moment later."""
    is_everything = not found.has_older and not found.has_newer and not found.begins
    total = {"count": len(found.records), "is": "exact"} if is_everything else None
    return {
        "older": JournalPlace(found.low, is_older=True).text() if found.has_older else None,
        "newer": JournalPlace(found.high, is_older=False).text(),
        "has_newer": found.has_newer,
        "looked_at": {"beyond": found.low, "upto": found.high},
        "settled": found.settled,
        "total": total,
        "begins": found.begins or None,
    } | ({} if where.text is None else {"searched": "window"})
