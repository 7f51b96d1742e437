"""Replayer: re-runs history with the present code, action after action, and tells what differs.

    with Replayer(bus.journal, application) as replayer:
        for step in replayer.verify():
            print(step, step.differences)

`verify` runs each action on the recorded state before it, so that no difference follows from another's; `run` runs it
on what the replay has made so far, and shows where that parts from history. What overlapped with an action may have
committed between its statements: where it differs, the states that it may have seen are tried as well, and where one of
them explains it, it is `concurrent` and no divergence. Differences where history was redacted are told from real ones
by running the action with other stand-ins: what changes with them was made of a secret.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, Final
from uuid import UUID

from marshmallow import ValidationError
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from actionbus.core import Application, History, InvalidArguments, Journal, Record
from actionbus.core.declare.registry import OF_QUEUES
from actionbus.core.gateway.execution import arguments_text
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import Shape
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload
from actionbus.replay.errors import NeedsUpcast, ReplayError
from actionbus.replay.past.history import Entry, entries, first_position
from actionbus.replay.past.nets import Net, are_identical, net_of
from actionbus.replay.past.overlap import NOTHING_SEEN, SeenOthers, overlapping, unseen
from actionbus.replay.past.recorded import OfRecord, RecordedImages, beginnings, images_between, rows_at
from actionbus.replay.past.renaming import Renaming
from actionbus.replay.past.under_way import UnderWay
from actionbus.replay.sandbox.playback import PlayedWorld
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.sandbox.sandbox import Sandbox
from actionbus.replay.sandbox.sandbox_database import Prepare
from actionbus.replay.sandbox.upcasting import upcast
from actionbus.replay.verdicts import playable
from actionbus.replay.verdicts.divergence import Comparing, Difference, compare
from actionbus.replay.verdicts.order import answer_of, are_permuted, as_named, gone_through
from actionbus.replay.verdicts.overlapped import OverlappedAction, RecordedHistory
from actionbus.replay.verdicts.passing import SKIPS, OutOfSight, passed_over
from actionbus.replay.verdicts.step import Step

Others = SeenOthers | OutOfSight
"""What is done to rows while an action runs."""
SUCCEEDED: Final = ("succeeded",)
_LATER: Final = 200
_WINDOW: Final = 2_000
"""How many outcomes ahead, and back, an overlapping action is looked for."""


class Replayer:
    """Re-runs a journal's history in a sandbox, once.

    `database` is the sandbox: a URL or Engine of an empty database of the journal's kind; for a journal on SQLite it is
    one in memory by default. `prepare` makes its tables, given an Engine; by default the models do. `overrides` puts
    objects in place of dependencies. Raises ReplayError where the database is missing, or will not do.
    """

    def __init__(
        self,
        journal: Journal,
        application: Application,
        database: str | URL | Engine | None = None,
        *,
        prepare: Prepare | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.journal = journal
        self.history = History(journal.backend, journal)
        if database is None and journal.dialect != "sqlite":
            raise ReplayError(f"the journal is of {journal.dialect}: give an empty database of it for the sandbox")
        self.sandbox = Sandbox(application, database or "sqlite://", prepare=prepare, overrides=overrides)
        if (kind := self.sandbox.engine.dialect.name) != journal.dialect:
            self.close()
            raise ReplayError(f"the journal is of {journal.dialect}, the sandbox of {kind}: its rows do not fit there")
        self._renaming = Renaming(self.sandbox.models)
        self._overlaps = journal.dialect == "postgresql"  # SQLite has one writer
        self._recent: deque[Record] = deque(maxlen=_WINDOW)
        self._recorded: RecordedImages | None = None
        self._under_way = UnderWay(journal)
        self._beginnings: Mapping[str, int] = {}
        self.noting: Callable[[list[Net]], None] = lambda nets: None
        """Told of the rows that are put as they were recorded, beside those of the actions given; a fork listens."""

    def verify(
        self, after: int = 0, upto: int | None = None, *, statuses: Collection[str] = SUCCEEDED
    ) -> Iterator[Step]:
        """Run each action beyond `after` on the recorded state before it. Raises NeedsUpcast before anything is run."""
        for entry, recorded in self.begin(after, upto, statuses):
            step = self.judged(entry, recorded)
            self.end_as_recorded(step, recorded)
            yield step

    def run(self, after: int = 0, upto: int | None = None, *, statuses: Collection[str] = SUCCEEDED) -> Iterator[Step]:
        """Run each action beyond `after` on what those before it made now. Raises as `verify` does."""
        for entry, recorded in self.begin(after, upto, statuses):
            step = self.judged(entry, recorded)
            if step.verdict == "divergent":
                step.rerun = self.sandbox.run(entry, recorded)
                self.sandbox.keep(step.rerun)
            else:
                self.end_as_recorded(step, recorded)
            yield step

    def begin(
        self, after: int, upto: int | None = None, statuses: Collection[str] = SUCCEEDED
    ) -> Iterator[tuple[Entry, list[Net]]]:
        """The actions of these statuses that can be run, each with its recorded rows, the tables as they were before.

        Whatever else was recorded is put into the tables; what becomes of the action given is the caller's to put.
        """
        self.check_versions(after, upto)
        self._load_whole(after)
        for entry in entries(self.journal, after, upto):
            recorded = self.catch_up(entry)
            if self.is_for_operators(entry) or entry.outcome.status not in (*statuses, "succeeded"):
                self._put(recorded)
            else:
                yield entry, recorded
            if self._overlaps:
                self._recent.extend(each.outcome for each in entry.all())

    def stand_before(self, entry: Entry) -> list[Net]:
        """Have the tables as they were recorded before an action; its recorded rows."""
        self.check_versions(entry.position - 1, entry.position)
        self._load_whole(first_position(entry) - 1)
        return self.catch_up(entry)

    def _load_whole(self, after: int) -> None:
        """Put the rows of a position into the sandbox; what was committed behind it comes with its outcome."""
        self.load(after)
        if not self._overlaps:
            return
        for record in self._under_way.parted(self._recent, after):
            shapes, images = self._images_of(record)
            of = OfRecord(record.position, images, shapes)
            self.sandbox.put([net._replace(before=net.after, after=net.before) for net in reversed(of.nets())])
            self._under_way.holds(record, of, after)
            self._recent.remove(record)

    def load(self, after: int) -> None:
        """Put the rows of a position into the sandbox, once. Raises ReplayError."""
        if self._recorded is not None:
            raise ReplayError("a replayer goes through history once; make another")
        self.journal.require()
        self._beginnings = beginnings(self.history, self._renaming)
        self._recorded = RecordedImages(self.history, after, self.journal.settled(), self._renaming)
        self.sandbox.load(rows_at(self.history, after, self._renaming))
        if self._overlaps:
            low = max(self.journal.begins.position(), after - _WINDOW)
            self._recent.extend(self.journal.read(low, upto=after, kind=("outcome", "bypass")))

    def catch_up(self, entry: Entry) -> list[Net]:
        """Put what was recorded before an action's own rows, which are returned."""
        assert self._recorded is not None
        own: list[Image] = []
        shapes: Mapping[int, Shape] = {}
        mine = {each.position for each in entry.all()}
        for each in chain(self._under_way.due(entry.position), self._recorded.through(entry.position)):
            shapes = each.shapes
            if each.position in mine:
                own += each.images
                continue
            record = self.journal.at(each.position) if self._overlaps else None
            if record is not None and self._under_way.holds(record, each, entry.position):
                continue
            self._put(each.nets(), begun=each.begun())
            if record is not None:
                self._recent.append(record)
        return net_of(own, shapes)

    def _put(self, nets: list[Net], *, begun: Sequence[str] = ()) -> None:
        self.sandbox.put(nets, begun=begun)
        self.noting(nets)

    def is_for_operators(self, entry: Entry) -> bool:
        """Whether it was decided about the machinery of that time, of which a sandbox has nothing."""
        action = self.sandbox.bus.registry.find(entry.outcome.action)
        return entry.outcome.action in OF_QUEUES or (action is not None and action.for_operators)

    def check_versions(self, after: int = 0, upto: int | None = None) -> None:
        """Raise NeedsUpcast for succeeded actions of versions that the present handlers cannot read."""
        registry, missing = self.sandbox.bus.registry, []
        for name, version, position in self.journal.versions(after, upto):
            action = registry.find(name)
            if action is None or action.handler.version == version:
                continue
            if version > action.handler.version:
                missing.append(
                    f"{name}: the journal has version {version} (up to position {position}), the handler is "
                    f"version {action.handler.version}; replay it with the code that wrote it"
                )
            elif not registry.upcasts(action):
                missing.append(
                    f"{name}: the journal has version {version} (up to position {position}), the handler is "
                    f"version {action.handler.version} and has no upcast(arguments, version)"
                )
        if missing:
            raise NeedsUpcast("nothing was replayed:\n" + "\n".join(f"  - {each}" for each in missing))

    def close(self) -> None:
        """Let go of the sandbox; see `Sandbox.close`."""
        self.sandbox.close()

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def end_as_recorded(self, step: Step, recorded: list[Net]) -> None:
        """Have the tables as they were recorded after the action: as it left them now, if that is the same."""
        rerun = step.rerun
        if rerun is not None and rerun.transaction is not None:
            if step.verdict == "same" and are_identical(recorded, rerun.nets):
                self.sandbox.keep(rerun)
                return
            self.sandbox.drop(rerun)
        self.sandbox.put(recorded)

    def judged(self, entry: Entry, recorded: list[Net]) -> Step:
        """The action run on the tables as they are, and what is to be said of it; nothing has been kept of it yet."""
        if why := playable.why_not_replayable(entry) or playable.why_rows_not_known(recorded):
            return Step(entry, None, "unplayable", why=why)
        if self.sandbox.bus.registry.find(entry.outcome.action) is None and not playable.was_unknown(entry.outcome):
            return Step(entry, None, "retired", why=playable.why_retired(entry.outcome.action))
        rerun, differences = self.tried(entry, recorded)
        if not differences and not rerun.unplayable:
            return Step(entry, rerun, "same")
        self.sandbox.drop(rerun)
        if why := self._why_unplayable(entry, rerun):
            return Step(entry, rerun, "unplayable", differences, why=why)
        if rerun.stood_in and not (differences := self.without_secrets(entry, recorded, differences)):
            return Step(entry, rerun, "same")
        others = overlapping(entry, self._recent)
        ids = tuple(record.action_id for record in others)
        overlapped = self._overlapped(entry, recorded, rerun, others) if others else None
        skipping = next(filter(SKIPS.search, rerun.statements), None)
        if overlapped is not None and (seen := overlapped.search.seen) is not None:
            statement = seen.first_before or skipping
            return Step(entry, rerun, "concurrent", differences, overlapped=ids, statement=statement)
        held = self._held_by(entry) if self._overlaps and skipping else ()
        if held and self._passed(entry, recorded, rerun):
            return Step(entry, rerun, "concurrent", differences, overlapped=held, statement=skipping)
        if self._only_order_decides(entry, recorded, rerun, differences):
            return Step(entry, rerun, "order", differences, overlapped=ids)
        if overlapped is not None and (seen := overlapped.order_beside()) is not None:
            return Step(entry, rerun, "concurrent", differences, overlapped=ids, statement=seen.first_before)
        if overlapped is not None and (told := overlapped.undecided()) is not None:
            statement, why = told
            return Step(entry, rerun, "concurrent", differences, overlapped=ids, statement=statement, why=why)
        return Step(entry, rerun, "divergent", differences, overlapped=ids or held)

    def tried(
        self,
        entry: Entry,
        recorded: list[Net],
        world: PlayedWorld | None = None,
        *,
        seen: Others | None = None,
    ) -> tuple[Rerun, list[Difference]]:
        """The action run on the tables as they are, not ended yet; and what differs from history."""
        again = datetime.now(UTC)
        rerun = self.sandbox.run(entry, recorded, world=world, meanwhile=seen.commits if seen is not None else None)
        return rerun, self.compare(entry, rerun, recorded, again)

    def compare(self, entry: Entry, rerun: Rerun, recorded: list[Net], again: datetime) -> list[Difference]:
        """What differs between an action of history and a re-run of it that began at `again`."""
        known = {each for each in self.sandbox.tables.shapes if self._is_known(each, entry)}
        told = Comparing(
            known, self._present_arguments, min(again, self.sandbox.begun_at), self.sandbox.tables.is_default
        )
        return compare(entry, rerun, recorded, told)

    def _is_known(self, table: str, entry: Entry) -> bool:
        return self._beginnings.get(table, entry.position) < entry.position

    def _why_unplayable(self, entry: Entry, rerun: Rerun) -> str | None:
        """Why what differs says nothing: history does not hold what the action reads, or what decides how it ends."""
        if rerun.unplayable:
            return rerun.unplayable[0]
        if why := playable.why_not_comparable(entry, rerun):
            return why
        return playable.why_not_known(self.sandbox.tables, rerun.statements, self._beginnings, entry.position)

    def without_secrets(self, entry: Entry, recorded: list[Net], differences: list[Difference]) -> list[Difference]:
        """The differences that stay as they are whatever stands in for the secrets."""
        kept = differences
        for salt in (1, 2):
            again, found = self.tried(entry, recorded, PlayedWorld(entry, salt))
            self.sandbox.drop(again)
            now = set(map(_identity, found))
            kept = [each for each in kept if _identity(each) in now]
        return kept

    def _held_by(self, entry: Entry) -> tuple[UUID, ...]:
        """Who may have held rows that a statement passed over: others that ran meanwhile, whenever they ended."""
        later = self.journal.read(entry.position, limit=_LATER, kind="outcome")
        ended = entry.outcome.recorded_at
        meanwhile = [each for each in later if each.started_at is not None and each.started_at < ended]
        return tuple(each.action_id for each in (*unseen(entry, self._recent), *meanwhile))

    def _passed(self, entry: Entry, recorded: list[Net], rerun: Rerun) -> bool:
        def run(seen: OutOfSight) -> tuple[list[Net], bool]:
            with self.sandbox.aside():
                again, differences = self._apart(entry, recorded, seen)
            return again.nets, not differences

        return passed_over(recorded, rerun.nets, run)

    def _only_order_decides(
        self, entry: Entry, recorded: list[Net], rerun: Rerun, differences: list[Difference]
    ) -> bool:
        """Whether it comes out otherwise only since its rows lie elsewhere; see `replay.verdicts.order`."""
        tables = gone_through(self.sandbox.tables.shapes, rerun.statements, recorded)
        if not tables:
            return False
        with self.sandbox.laid_out(tables, None):
            if set(map(_identity, self._apart(entry, recorded)[1])) == set(map(_identity, differences)):
                return False
        if are_permuted(differences, [entry.outcome.result, entry.outcome.calls], answer_of(rerun)):
            return True
        for layout in as_named(entry, recorded):
            with self.sandbox.laid_out(tables, layout) as done:
                if done and not self._apart(entry, recorded)[1]:
                    return True
        return False

    def _apart(self, entry: Entry, recorded: list[Net], seen: Others | None = None) -> tuple[Rerun, list[Difference]]:
        """The action run on the tables as they are, and taken back; what differs, secrets apart."""
        rerun, differences = self.tried(entry, recorded, seen=seen)
        self.sandbox.drop(rerun)
        if differences and rerun.stood_in:
            differences = self.without_secrets(entry, recorded, differences)
        return rerun, differences

    def seen_by(self, entry: Entry, recorded: list[Net], rerun: Rerun) -> SeenOthers:
        """What an action that differs saw of those that it overlapped, as far as that explains how it ended."""
        others = overlapping(entry, self._recent)
        if not others:
            return NOTHING_SEEN
        return self._overlapped(entry, recorded, rerun, others).search.seen or NOTHING_SEEN

    def _overlapped(
        self, entry: Entry, recorded: list[Net], rerun: Rerun, others: Sequence[Record]
    ) -> OverlappedAction:
        history = RecordedHistory(self._images_of, self._images_upto)
        return OverlappedAction(
            entry, recorded, rerun, others, history, self.sandbox, partial(self._apart, entry, recorded)
        )

    def _images_of(self, record: Record) -> tuple[Mapping[int, Shape], list[Image]]:
        return images_between(self.history, record.position - 1, record.position, self._renaming)

    def _images_upto(self, low: int, high: int) -> dict[int, int | None]:
        return {position: upto for position, (_, upto) in self.history.ranges(low, high).items()}

    def _present_arguments(self, outcome: Record) -> dict[str, Any] | None:
        """The recorded, validated arguments as a handler of another version would have validated them."""
        action, version = self.sandbox.bus.registry.find(outcome.action), outcome.handler_version
        if action is None or version is None or version >= action.handler.version:
            return None
        made = upcast(action.handler, dict(outcome.arguments), version)
        limits = self.sandbox.bus.application.limits
        try:
            text = arguments_text(action, action.schema.load(made), limits, Scrubber())
        except (ValidationError, InvalidArguments):
            return made
        told: dict[str, Any] = payload.loads(text)
        return told


def _identity(difference: Difference) -> str:
    return f"{difference.action} {difference.field} {payload.dumps(difference.now)}"
