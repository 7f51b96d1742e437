"""Rebuild: a new index is built beside the one that readers see, verified, and put in its place in one step.

Why no write is lost and no reader sees a half-built index: the new index is not fed by projectors until it is swapped
in, and it is swapped in by one atomic step of the store, while the old one is frozen (`Ledger.freeze`: nobody's write
to it can begin) and the new one has absorbed at least as much. The freeze ends by itself, so that a rebuild that is
killed holds nobody up. The old index goes on being fed, so that a rollback is current, until `prune` removes it.
Which index is served is what the store's alias says, nothing else; so a kill between the swap and our own notes is
seen and mended by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from actionbus.core import Bus
from actionbus.projections.belonging import why_not, why_not_whole
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.claim import Claim
from actionbus.projections.errors import IndexBusy, NeedsRebuild, ProjectionStopped
from actionbus.projections.feeder import BATCH, Feeder
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.pacing import UNPACED, Pace
from actionbus.projections.projection import Projection
from actionbus.projections.refold import folded_anew
from actionbus.projections.store import StoredDocument

log = logging.getLogger("actionbus")

Watch = Callable[[str, int, int], None]
"""Hears of progress: what is being done, the position reached, the position to reach."""

_MARGIN_S = 10.0
"""Seconds that the old index must still be frozen for when the alias is moved; else it is tried again."""
_SAMPLE = 100
"""Documents that are folded anew before a new index is shown to readers."""
_PAGE = 2_000
"""Documents compared at a time: what of them is in memory at once."""
_PATIENCE_S = 10.0
"""Seconds that an index to go back to has to come up to what readers saw."""
_POLL_S = 0.1
_COPYING_S = 1_800.0
"""Seconds that copies of a new index may take to be made, before it is served without all of them."""


def nobody_watches(_what: str, _done: int, _total: int) -> None:
    """The default of `watch`: progress is told to nobody."""


class DocumentDifference(NamedTuple):
    """A document that a rebuild would change. A side is None where there is no such document."""

    key: str
    change: Literal["add", "change", "remove"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Rebuild:
    """One projection's rebuild, and its way back."""

    def __init__(
        self, bus: Bus, catalogue: Catalogue, projection: type[Projection], watch: Watch, pace: Pace = UNPACED
    ) -> None:
        self._bus, self._catalogue, self._projection, self._watch = bus, catalogue, projection, watch
        self._pace = pace
        self._store, self._ledger = catalogue.store, catalogue.ledger

    def run(self, *, take_over: bool = False) -> str:
        """Build, verify, swap; the new index's name."""
        name = self._projection.name
        self._refuse_strangers(take_over=take_over)
        rows = self._ledger.checkpoints(name)
        if not rows and self._store.aliased(name) is None:
            rows = self._catalogue.ensure(self._projection)
        row = self._unfinished(rows) or self._new(max((row.slices for row in rows), default=1))
        if self._store.aliased(name) == row.index_name:
            self._ledger.set_built(row.index_name)  # killed after the swap, before noting it
            return row.index_name
        claims = [self._claimed(each) for each in self._ledger.checkpoints(index=row.index_name)]
        try:
            self._catalogue.create_index(self._projection, row.index_name, loading=True)
            feeders = [self._feeder(claim, part) for part, claim in claims]
            self._load(feeders)
            self._store.finish_loading(row.index_name)
            self._wait_for_copies(feeders)
            self._verify(feeders)
            self._refuse_strangers(take_over=take_over)  # again, since it takes its time to build an index
            self._switch(row.index_name, self._store.aliased(name), partial(self._caught_up, feeders))
            self._ledger.set_built(row.index_name)
        finally:
            for _, claim in claims:
                claim.release()
        return row.index_name

    def _refuse_strangers(self, *, take_over: bool = False) -> None:
        """Raise NotOurs if readers see what is not this projection of this journal, and is not to be taken over."""
        name = self._projection.name
        served = self._store.aliased(name)
        if served is None or (served != name and (take_over or self._catalogue.is_ours(self._projection, served))):
            return
        raise self._catalogue.stranger(self._projection, served)

    def _unfinished(self, rows: list[Checkpoint]) -> Checkpoint | None:
        """A rebuild of this version that was cut off."""
        unfinished = (row for row in rows if not row.built and row.version == self._projection.version)
        return next(unfinished, None)

    def _new(self, slices: int) -> Checkpoint:
        index = self._catalogue.create(self._projection, slices)
        return self._ledger.checkpoints(index=index)[0]

    def _claimed(self, row: Checkpoint) -> tuple[Checkpoint, Claim]:
        claim = self._claim(row)
        if not claim.acquire_from_the_dead():
            raise IndexBusy(f"another process rebuilds {self._projection.name} ({row.index_name})")
        return row, claim

    def _claim(self, row: Checkpoint) -> Claim:
        return Claim(self._bus.engine, self._ledger, row, self._bus.backend.schema)

    def _feeder(self, claim: Claim, row: Checkpoint) -> Feeder:
        feeder = Feeder(
            self._bus, self._store, self._ledger, self._projection, row, claim, batch=self._pace.batch(BATCH)
        )
        try:
            feeder.check()
        except NeedsRebuild:
            # The unfinished index is of a journal that is no more. The next run makes another.
            self._catalogue.remove(self._projection, row.index_name)
            raise
        return feeder

    def _load(self, feeders: list[Feeder]) -> None:
        what = "building" if self._pace.rate is None else f"building, at most {self._pace.rate:,g} records/s"
        for feeder in feeders:
            while (done := feeder.step()).more:
                at, total = min(each.row.position for each in feeders), self._bus.journal.last()
                self._watch(what, min(at, total), total)
                self._pace.take(done.records, partial(_give_signs_of_life, feeders))
        total = self._bus.journal.last()
        self._watch(what, total, total)

    def _caught_up(self, feeders: list[Feeder], reach: int) -> bool:
        for feeder in feeders:
            while feeder.row.position < reach and feeder.step().records:
                pass
        return all(feeder.row.position >= reach for feeder in feeders)

    def _wait_for_copies(self, feeders: list[Feeder]) -> None:
        """Wait until the index has as many copies as readers are to have it from, where there are servers for them."""
        give_up = time.monotonic() + _COPYING_S
        index = feeders[0].row.index_name
        while not self._store.has_its_copies(index):
            if time.monotonic() > give_up:
                log.warning("%s is served with fewer copies than it is to have: they take their time", index)
                return
            _give_signs_of_life(feeders)
            self._watch("copying", 0, 1)
            time.sleep(_POLL_S)

    def _verify(self, feeders: list[Feeder]) -> None:
        """Counts, and sampled documents against a fold of the journal of their own. Raises ProjectionStopped.

        What differs is removed, so that the next run begins anew instead of finding the same again.
        """
        try:
            self._compare(feeders)
        except ProjectionStopped:
            self._catalogue.remove(self._projection, feeders[0].row.index_name)
            raise

    def _compare(self, feeders: list[Feeder]) -> None:
        index = feeders[0].row.index_name
        if why := why_not_whole(self._store, self._ledger, feeders[0].row):
            raise ProjectionStopped(f"the new index is not swapped in: {why}")
        keys = self._store.sample(index, _SAMPLE)
        end = min(feeder.row.position for feeder in feeders)
        skipped = set[int]().union(*(feeder.left_out for feeder in feeders))

        def watch(position: int, records: int) -> None:
            self._watch("verifying", position, end)
            self._pace.take(records, partial(_give_signs_of_life, feeders))

        expected = folded_anew(self._bus.journal, self._projection, dict.fromkeys(keys, end), skipped, watch=watch)
        stored = self._store.get_many(index, keys)
        for key in keys:
            wanted = expected[key].document() if key in expected else None
            if _document(stored, key) != wanted:  # not by version: one that was mended has a later one
                raise ProjectionStopped(
                    f"the new index {index} differs from the journal at the document {key!r}; it was not swapped in"
                )

    def _switch(self, new: str, old: str | None, catch_up: Callable[[int], bool]) -> None:
        """Let readers see `new`, with `old` frozen meanwhile. `catch_up` brings `new` to a position if it can."""
        while old is not None and self._ledger.checkpoints(index=old):
            catch_up(self._reach(old))
            self._ledger.freeze(old)
            try:
                if catch_up(self._reach(old)) and self._ledger.is_frozen_for(old, _MARGIN_S):
                    self._serve(new)
                    return
            finally:
                self._ledger.freeze(old, 0)
        self._serve(new)

    def _serve(self, index: str) -> None:
        self._store.refresh(index)
        self._store.point_alias(self._projection.name, index)

    def _reach(self, index: str) -> int:
        """How far the documents of an index may be. It may be ahead of a journal that was restored, and no measure."""
        rows = self._ledger.checkpoints(index=index)
        return min(max((max(row.position, row.writing_to) for row in rows), default=0), self._bus.journal.last())

    def rollback(self) -> str:
        """Serve the latest other index that is of this journal, as soon as it has all that readers see now.

        It is fed until then, by us where nobody else does. Raises ProjectionStopped, with readers left where they are.
        """
        self._refuse_strangers()
        served = self._store.aliased(self._projection.name)
        chosen = self._way_back(served)
        self._switch(chosen, served, partial(self._bring_up, chosen))
        return chosen

    def _way_back(self, served: str | None) -> str:
        """The latest index that readers could see instead. Raises ProjectionStopped, saying what is wrong with all."""
        name = self._projection.name
        rows = [row for row in self._ledger.checkpoints(name) if row.built and row.index_name != served]
        rows = [row for row in rows if self._catalogue.is_ours(self._projection, row.index_name)]
        wrong: list[str] = []
        for row in sorted(rows, key=lambda row: (row.version, row.created), reverse=True):
            why = why_not(self._bus, self._store, self._ledger, row)
            if not why:
                return row.index_name
            wrong.append(why)
        raise ProjectionStopped("; ".join([f"there is no other index of {name} to go back to", *dict.fromkeys(wrong)]))

    def _bring_up(self, index: str, reach: int) -> bool:
        """Wait until an index has absorbed a position, and feed it unless somebody does. Raises ProjectionStopped."""
        give_up = time.monotonic() + _PATIENCE_S
        while behind := [row for row in self._ledger.checkpoints(index=index) if row.position < reach]:
            why = self._why_not_fed(behind[0], reach)
            if why or time.monotonic() > give_up:
                why = why or "whoever feeds it takes its time"
                raise ProjectionStopped(
                    f"readers of {self._projection.name} see what they saw: {index} is "
                    f"{reach - behind[0].position} positions behind that, and {why}"
                )
            time.sleep(_POLL_S)
        return True

    def _why_not_fed(self, row: Checkpoint, reach: int) -> str | None:
        """Feed a slice up to a position, if that is ours to do; why nobody can."""
        if row.version != self._projection.version:
            return (
                f"it is fed by the code of version {row.version} alone, not by this one of version "
                f"{self._projection.version}: run that (`actionbus projections run`) and ask it for the rollback"
            )
        claim = self._claim(row)
        if not claim.acquire():
            found = self._ledger.checkpoint(row.index_name, row.slice)
            return str(found.told.get("message", "it is stopped")) if found and found.state == "stopped" else None
        try:
            feeder = Feeder(self._bus, self._store, self._ledger, self._projection, row, claim)
            feeder.check()
            self._caught_up([feeder], reach)
        except ProjectionStopped as error:
            return str(error)
        finally:
            claim.release()
        return None

    def differences(self) -> Iterator[DocumentDifference]:
        """Build an index that nobody sees, compare it with the one that is served, remove it again."""
        name = self._projection.name
        served = self._store.aliased(name)
        row = self._new(1)
        _, claim = self._claimed(row)
        try:
            self._catalogue.create_index(self._projection, row.index_name, loading=True)
            feeder = self._feeder(claim, row)
            self._load([feeder])
            yield from self._compared(served, feeder)
        finally:
            self._catalogue.remove(self._projection, row.index_name)
            claim.release()

    def _compared(self, served: str | None, feeder: Feeder) -> Iterator[DocumentDifference]:
        new = feeder.row.index_name
        suspects = self._suspects(served, new)
        # What traffic changed meanwhile is no difference: freeze the served index, catch up, and look once more.
        while suspects:
            page, suspects = suspects[:_PAGE], suspects[_PAGE:]
            if served:
                self._ledger.freeze(served)
            try:
                while feeder.step().records:
                    pass
                before = self._store.get_many(served, page) if served else {}
                after = self._store.get_many(new, page)
            finally:
                if served:
                    self._ledger.freeze(served, 0)
            for key in page:
                old, now = _document(before, key), _document(after, key)
                if old != now:
                    yield DocumentDifference(
                        key, "add" if old is None else "remove" if now is None else "change", old, now
                    )

    def _suspects(self, served: str | None, new: str) -> list[str]:
        found: dict[str, None] = {}
        for one, other in ((new, served), (served, new)):
            batch: dict[str, StoredDocument] = {}
            for key, stored in self._store.scan(one) if one else ():
                batch[key] = stored
                if len(batch) == _PAGE:
                    found |= dict.fromkeys(self._unlike(batch, other))
                    batch = {}
            found |= dict.fromkeys(self._unlike(batch, other))
        return sorted(found)

    def _unlike(self, batch: dict[str, StoredDocument], other: str | None) -> list[str]:
        there = self._store.get_many(other, batch) if other and batch else {}
        return [key for key, stored in batch.items() if _document(there, key) != stored.document]


def _give_signs_of_life(feeders: Sequence[Feeder]) -> None:
    for feeder in feeders:
        feeder.sign_of_life()


def _document(found: dict[str, StoredDocument], key: str) -> dict[str, Any] | None:
    return found[key].document if key in found else None
