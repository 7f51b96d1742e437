"""One action of history that overlapped with others: what of them explains how it came out. Used by the replayer.

`explaining` says what is tried; here stands how, in a sandbox, and what besides: that others and the order of rows in
their tables explain it together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

from actionbus.core import Record
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import Shape
from actionbus.core.values.change import reads_same
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import HeldRow, Net, change_of, net_of
from actionbus.replay.past.overlap import SeenOthers, others_of
from actionbus.replay.sandbox.clocks import Clocks
from actionbus.replay.sandbox.happening import end_of_savepoints
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.sandbox.sandbox import Sandbox
from actionbus.replay.sandbox.tables import Layout
from actionbus.replay.verdicts.divergence import Difference
from actionbus.replay.verdicts.explaining import Search, TriedWay
from actionbus.replay.verdicts.mattering import Mattering
from actionbus.replay.verdicts.order import answer_of, are_permuted, as_named, gone_through
from actionbus.replay.verdicts.passing import SKIPS, OutOfSight, passed_over
from actionbus.replay.verdicts.row_differences import is_scrubbed

Apart = Callable[[SeenOthers], tuple[Rerun, list[Difference]]]
"""Runs the action where it saw that, and takes it back."""
_MOST_CHANGES: Final = 300
"""Of an action that made more, no change is compared with history before it has ended."""

_MOST_PASSES: Final = 300
"""So often is an action run where rows are passed over."""


class RecordedHistory(NamedTuple):
    """What history holds of records."""

    images: Callable[[Record], tuple[Mapping[int, Shape], Sequence[Image]]]
    """Those of one."""
    images_upto: Callable[[int, int], Mapping[int, int | None]]
    """Of those between two positions, which was the last image of all when each was appended."""

    def nets(self, record: Record) -> list[Net]:
        """What one made of rows."""
        shapes, images = self.images(record)
        return net_of(images, shapes)


class OverlappedAction:
    """The action, the rows recorded of it, what came of running it on the recorded state, and whom it overlapped."""

    def __init__(
        self,
        entry: Entry,
        recorded: Sequence[Net],
        rerun: Rerun,
        others: Sequence[Record],
        history: RecordedHistory,
        sandbox: Sandbox,
        apart: Apart,
    ) -> None:
        self._entry = entry
        self._recorded = recorded
        self._rerun = rerun
        self._sandbox = sandbox
        self._apart = apart
        self._changes: list[Net] = []
        self._passes = _MOST_PASSES
        own: list[int] = []
        for each in entry.all():
            shapes, images = history.images(each.outcome)
            own += [image.image for image in images]
            self._changes += [change_of(image, shapes) for image in images if image.shape in shapes]
        upto = history.images_upto(min(record.position for record in others), entry.position)
        matters = Mattering(sandbox.tables, recorded, rerun.statements)
        self.search = Search(others_of(others, history.nets, own, upto), matters, self._tried)
        """What was found; it is gone through when this is made."""

    def _tried(self, seen: SeenOthers) -> TriedWay:
        again = min(datetime.now(UTC), self._sandbox.begun_at)
        with self._sandbox.before(seen.taken_back()):
            rerun, differences = self._apart(seen)
            skips = any(map(SKIPS.search, rerun.statements))
            if differences and skips and self._passes_over(seen, rerun):
                differences = []
        fields = {f"{each.action} {each.field}" for each in differences} | {f"unplayable {n}" for n in rerun.unplayable}
        outcome = self._entry.outcome
        told = bool(differences) and are_permuted(differences, [outcome.result, outcome.calls], answer_of(rerun))
        has_status = rerun.outcome.status == outcome.status
        departs = None if skips else self._departs(rerun, again)  # what it took may be what it has to pass over
        return TriedWay(frozenset(fields), has_status, departs, told and not rerun.unplayable)

    def _passes_over(self, seen: SeenOthers, rerun: Rerun) -> bool:
        """Whether it comes out as recorded where rows that it takes now, having seen that, are passed over."""
        made = seen.decisions, seen.first_before

        def run(out_of_sight: OutOfSight) -> tuple[list[Net], bool]:
            if not self._passes:
                return [], False
            self._passes -= 1
            seen.beside = out_of_sight
            seen.taken_back()
            again, differences = self._apart(seen)
            return again.nets, not (differences or again.unplayable)

        if passed_over(self._recorded, rerun.nets, run):
            return True
        seen.beside = None
        seen.decisions, seen.first_before = made
        return False

    def _departs(self, rerun: Rerun, again: datetime) -> int | None:
        """The first statement that made a change which history does not have, or the end of the savepoint around it.

        What was changed before an action, or a savepoint, was rolled back, history does not have either.
        """
        if (
            self._entry.outcome.status != "succeeded"
            or len(rerun.changes) > _MOST_CHANGES
            or len(self._changes) > _MOST_CHANGES
        ):
            return None
        ended = self._entry.outcome.recorded_at
        clocks = Clocks(self._entry.started_at, ended, again, rerun.bound, rerun.made_on_update)
        left: dict[tuple[str, str], list[Net]] = {}
        for each in self._changes:
            left.setdefault((each.table, str(each.key)), []).append(each)
        for number, change in rerun.changes:
            there = left.get((change.table, str(change.key)), [])
            place = next((n for n, each in enumerate(there) if _agree(each, change, clocks)), None)
            if place is None:
                return end_of_savepoints(rerun.statements, number)
            del there[place]
        return None

    def undecided(self) -> tuple[str | None, str] | None:
        """A statement, and why, if there was more than could be tried and each difference vanished in some try."""
        search = self.search
        if search.is_complete or search.lasting:
            return None
        statement = next((seen.first_before for seen in search.nearest() if seen.first_before), None)
        return statement, (
            f"what it saw of those that it overlapped could not be told: of {search.tries} ways that were tried none "
            "explains everything, but each difference is explained by one of them"
        )

    def order_beside(self) -> SeenOthers | None:
        """What it saw of others if that and where rows lay explain together how it came out; see `order`."""
        tables = gone_through(self._sandbox.tables.shapes, self._rerun.statements, self._recorded)
        if not tables:
            return None
        search = self.search
        if search.reordered is not None and self._is_decided_by_order(search.reordered, tables):
            return search.reordered
        for seen in search.nearest():
            if not self._is_decided_by_order(seen, tables):
                continue
            for layout in as_named(self._entry, self._recorded):
                with self._laid_out(seen, tables, layout) as done:
                    if done and not self._apart(seen)[1]:
                        return seen
        return None

    def _is_decided_by_order(self, seen: SeenOthers, tables: Sequence[str]) -> bool:
        with self._sandbox.before(seen.taken_back()):
            as_they_lie = self._apart(seen)[1]
        with self._laid_out(seen, tables, None):
            return set(map(str, self._apart(seen)[1])) != set(map(str, as_they_lie))

    @contextmanager
    def _laid_out(self, seen: SeenOthers, tables: Sequence[str], layout: Layout | None) -> Iterator[bool]:
        with ExitStack() as stack:
            stack.enter_context(self._sandbox.before(seen.taken_back()))
            yield stack.enter_context(self._sandbox.laid_out(tables, layout))


def _agree(then: Net, now: Net, clocks: Clocks) -> bool:
    return _is_one(then.before, now.before, clocks) and _is_one(then.after, now.after, clocks)


def _is_one(then: HeldRow | None, now: HeldRow | None, clocks: Clocks) -> bool:
    """Whether two rows are the same in what both have."""
    if then is None or now is None:
        return then is now
    was, came = then.values(), now.values()
    return all(
        reads_same(was[name], came[name]) or is_scrubbed(was[name], came[name]) or clocks.explain(was[name], came[name])
        for name in was.keys() & came.keys()
    )
