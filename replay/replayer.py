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

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from marshmallow import ValidationError
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from actionbus.core import Application, History, Journal, Record
from actionbus.core.gateway.execution import arguments_text
from actionbus.core.history.images import Image
from actionbus.core.history.shapes import Shape
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload
from actionbus.replay.divergence import Comparing, Difference, compare
from actionbus.replay.errors import NeedsUpcast, ReplayError
from actionbus.replay.explaining import explained
from actionbus.replay.history import Entry, entries, first_position
from actionbus.replay.nets import Net, RowChange, are_identical, bare, changes_of, net_of
from actionbus.replay.overlap import Seen, by_transaction, overlapping, parts_of
from actionbus.replay.playable import why_not_comparable, why_not_replayable, why_rows_not_known
from actionbus.replay.playback import PlayedWorld
from actionbus.replay.recorded import Recorded, beginnings, images_between, rows_at
from actionbus.replay.sandbox import Prepare, Rerun, Sandbox
from actionbus.replay.upcasting import upcast

Verdict = Literal["same", "divergent", "concurrent", "retired", "unplayable"]
SUCCEEDED: Final = ("succeeded",)
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_WINDOW: Final = 2_000
"""How many outcomes back an overlapping action is looked for."""


@dataclass(slots=True)
class Step:
    """One action run again."""

    entry: Entry
    rerun: Rerun | None
    verdict: Verdict
    differences: list[Difference] = field(default_factory=list)
    overlapped: tuple[UUID, ...] = ()
    """Of a concurrent one: the actions that ran at the same time."""
    statement: str | None = None
    """Of a concurrent one: its statement just before which they committed; None if they did after it had begun."""
    why: str | None = None
    """Of a retired or unplayable one."""
    overlap_was_tried: bool = False
    """Of a divergent one: whether others overlapped with it, and nothing that was tried of them explains it."""

    @property
    def record(self) -> Record:
        """The outcome as the journal has it."""
        return self.entry.outcome

    @property
    def position(self) -> int:
        """Where its outcome lies."""
        return self.entry.position

    @property
    def is_divergence(self) -> bool:
        """Whether it counts: neither the same nor explained."""
        return self.verdict == "divergent"

    @property
    def changes(self) -> list[RowChange]:
        """The rows that it changes now."""
        return changes_of(self.rerun.nets) if self.rerun else []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The outside calls that were played back."""
        return (payload.loads(self.rerun.outcome.calls) if self.rerun and self.rerun.outcome.calls else None) or []

    def __repr__(self) -> str:
        return f"<Step {self.position} {self.record.action} {self.verdict}>"


class Replayer:
    """Re-runs a journal's history in a sandbox, once.

    `database` is the sandbox: a URL or Engine of an empty database of the journal's kind; for a journal on SQLite it is
    one in memory by default. `prepare` makes its tables, given an Engine; by default the models do. `overrides` puts
    objects in place of dependencies. Raises ReplayError where the database is missing, or is none that will do.
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
        self._overlaps = journal.dialect == "postgresql"  # SQLite has one writer
        self._recent: deque[Record] = deque(maxlen=_WINDOW)
        self._recorded: Recorded | None = None
        self._beginnings: Mapping[str, int] = {}
        self.noting: Callable[[list[Net]], None] = lambda nets: None
        """Told of the rows that are put as they were recorded, beside those of the actions given; a fork listens."""

    def verify(
        self, after: int = 0, upto: int | None = None, *, statuses: Collection[str] = SUCCEEDED
    ) -> Iterator[Step]:
        """Run each action beyond `after` on the recorded state before it. Raises NeedsUpcast before anything is run."""
        for entry, recorded in self.begin(after, upto, statuses):
            step = self._judged(entry, recorded)
            self._end_as_recorded(step, recorded)
            yield step

    def run(self, after: int = 0, upto: int | None = None, *, statuses: Collection[str] = SUCCEEDED) -> Iterator[Step]:
        """Run each action beyond `after` on what those before it made now. Raises as `verify` does."""
        for entry, recorded in self.begin(after, upto, statuses):
            step = self._judged(entry, recorded)
            if step.verdict == "divergent":
                step.rerun = self.sandbox.run(entry, recorded)
                self.sandbox.keep(step.rerun)
            else:
                self._end_as_recorded(step, recorded)
            yield step

    def begin(
        self, after: int, upto: int | None = None, statuses: Collection[str] = SUCCEEDED
    ) -> Iterator[tuple[Entry, list[Net]]]:
        """The actions of these statuses that can be run, each with its recorded rows, the tables as they were before.

        Whatever else was recorded is put into the tables; what becomes of the action given is the caller's to put.
        """
        self.check_versions(after, upto)
        self._load(after)
        for entry in entries(self.journal, after, upto):
            recorded = self.catch_up(entry)
            if self._is_for_operators(entry) or entry.outcome.status not in (*statuses, "succeeded"):
                self._put(recorded)
            else:
                yield entry, recorded
            if self._overlaps:
                self._recent.extend(each.outcome for each in entry.all())

    def stand_before(self, entry: Entry) -> list[Net]:
        """Have the tables as they were recorded before an action; its recorded rows."""
        self.check_versions(entry.position - 1, entry.position)
        self._load(first_position(entry) - 1)
        return self.catch_up(entry)

    def _load(self, after: int) -> None:
        if self._recorded is not None:
            raise ReplayError("a replayer goes through history once; make another")
        self.journal.require()
        self._beginnings = beginnings(self.history)
        self._recorded = Recorded(self.history, after, self.journal.settled())
        self.sandbox.load(rows_at(self.history, after))
        if self._overlaps:
            self._recent.extend(self.journal.read(max(0, after - _WINDOW), upto=after, kind=("outcome", "bypass")))

    def catch_up(self, entry: Entry) -> list[Net]:
        """Put what was recorded before an action's own rows, which are returned."""
        assert self._recorded is not None
        own: list[Image] = []
        shapes: Mapping[int, Shape] = {}
        mine = {each.position for each in entry.all()}
        for each in self._recorded.through(entry.position):
            shapes = each.shapes
            if each.position in mine:
                own += each.images
                continue
            self._put(each.nets(), begun=each.begun())
            if self._overlaps and (record := self.journal.at(each.position)):
                self._recent.append(record)
        return net_of(own, shapes)

    def _put(self, nets: list[Net], *, begun: Sequence[str] = ()) -> None:
        self.sandbox.put(nets, begun=begun)
        self.noting(nets)

    def _is_for_operators(self, entry: Entry) -> bool:
        """Whether it was decided about the machinery of that time, of which a sandbox has nothing."""
        action = self.sandbox.bus.registry.find(entry.outcome.action)
        return action is not None and action.for_operators

    def check_versions(self, after: int = 0, upto: int | None = None) -> None:
        """Raise NeedsUpcast for succeeded actions of versions that the present handlers cannot read."""
        registry, missing = self.sandbox.bus.registry, []
        for name, version, position in self.journal.versions(after, upto):
            action = registry.find(name)
            if action is None or action.handler.version == version:
                continue
            if version > action.handler.version:
                missing.append(f"{name}: the journal has version {version} (up to position {position}), the handler is "
                               f"version {action.handler.version}; replay it with the code that wrote it")  # fmt: skip
            elif not registry.upcasts(action):
                missing.append(f"{name}: the journal has version {version} (up to position {position}), the handler is "
                               f"version {action.handler.version} and has no upcast(arguments, version)")  # fmt: skip
        if missing:
            raise NeedsUpcast("nothing was replayed:\n" + "\n".join(f"  - {each}" for each in missing))

    def close(self) -> None:
        """Let go of the sandbox; see `Sandbox.close`."""
        self.sandbox.close()

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end_as_recorded(self, step: Step, recorded: list[Net]) -> None:
        """Have the tables as they were recorded after the action: as it left them now, if that is the same."""
        rerun = step.rerun
        if rerun is not None and rerun.transaction is not None:
            if step.verdict == "same" and are_identical(recorded, rerun.nets):
                self.sandbox.keep(rerun)
                return
            self.sandbox.drop(rerun)
        self.sandbox.put(recorded)

    def _judged(self, entry: Entry, recorded: list[Net]) -> Step:
        """The action run on the tables as they are, and what is to be said of it; nothing has been kept of it yet."""
        if why := why_not_replayable(entry) or why_rows_not_known(recorded):
            return Step(entry, None, "unplayable", why=why)
        if self.sandbox.bus.registry.find(entry.outcome.action) is None and entry.outcome.status == "succeeded":
            return Step(entry, None, "retired", why=f"there is no action {entry.outcome.action} any more")
        rerun, differences = self.tried(entry, recorded)
        if not differences and not rerun.unplayable:
            return Step(entry, rerun, "same")
        self.sandbox.drop(rerun)
        if why := self._why_unplayable(entry, rerun):
            return Step(entry, rerun, "unplayable", differences, why=why)
        if rerun.stood_in and not (differences := self.without_secrets(entry, recorded, differences)):
            return Step(entry, rerun, "same")
        others = overlapping(entry, self._recent)
        seen = self.explaining(entry, recorded, others) if others else None
        if seen is None:
            return Step(entry, rerun, "divergent", differences, overlap_was_tried=bool(others))
        ids = tuple(record.action_id for record in others)
        return Step(entry, rerun, "concurrent", differences, overlapped=ids, statement=seen.first_before)

    def tried(
        self, entry: Entry, recorded: list[Net], world: PlayedWorld | None = None, *, seen: Seen | None = None
    ) -> tuple[Rerun, list[Difference]]:
        """The action run on the tables as they are, not ended yet; and what differs from history."""
        again = datetime.now(UTC)
        rerun = self.sandbox.run(entry, recorded, world=world, meanwhile=seen.commits if seen is not None else None)
        return rerun, self.compare(entry, rerun, recorded, again)

    def compare(self, entry: Entry, rerun: Rerun, recorded: list[Net], again: datetime) -> list[Difference]:
        """What differs between an action of history and a re-run of it that began at `again`."""
        known = {each for each in self.sandbox.tables.shapes if self._is_known(each, entry)}
        return compare(entry, rerun, recorded, Comparing(known, self._present_arguments, again))

    def _is_known(self, table: str, entry: Entry) -> bool:
        return self._beginnings.get(table, entry.position) < entry.position

    def _why_unplayable(self, entry: Entry, rerun: Rerun) -> str | None:
        """Why what differs says nothing: history does not hold what the action reads, or what decides how it ends."""
        if rerun.unplayable:
            return rerun.unplayable[0]
        if why := why_not_comparable(entry, rerun):
            return why
        words = {word for statement in rerun.statements for word in _WORD.findall(statement)}
        for name, shape in self.sandbox.tables.shapes.items():
            if name.rpartition(".")[2] not in words:
                continue
            if not self._is_known(name, entry):
                begins = self._beginnings.get(name, "the end")
                return f"it reads or writes {bare(name)}, of which nothing is recorded before position {begins}"
            if withheld := words.intersection(shape.withheld):
                return f"it reads or writes {bare(name)}.{min(withheld)}, which is withheld from history"
            if erased := words.intersection(self.sandbox.tables.erased.get(name, ())):
                return f"it reads or writes {bare(name)}.{min(erased)}, of which values were erased with their subject"
        return None

    def without_secrets(self, entry: Entry, recorded: list[Net], differences: list[Difference]) -> list[Difference]:
        """The differences that stay as they are whatever stands in for the secrets."""
        kept = differences
        for salt in (1, 2):
            again, found = self.tried(entry, recorded, PlayedWorld(entry, salt))
            self.sandbox.drop(again)
            now = set(map(_identity, found))
            kept = [each for each in kept if _identity(each) in now]
        return kept

    def explaining(self, entry: Entry, recorded: list[Net], others: Sequence[Record]) -> Seen | None:
        """What the action may have seen of actions that overlapped, so that it comes out as recorded; or None."""

        def tried(seen: Seen) -> tuple[int, int]:
            with self.sandbox.before(seen.taken_back()):
                rerun, differences = self.tried(entry, recorded, seen=seen)
                self.sandbox.drop(rerun)
                if differences and rerun.stood_in:
                    differences = self.without_secrets(entry, recorded, differences)
            return len(differences) + len(rerun.unplayable), len(rerun.statements)

        transactions = by_transaction(others)
        theirs = [[net for record in each for net in self._nets_of(record)] for each in transactions]
        return explained(theirs, recorded, parts_of(entry, [each[-1] for each in transactions]), tried)

    def overlapped(self, entry: Entry) -> list[Record]:
        """The records before an action's that it could not see when it began."""
        return overlapping(entry, self._recent)

    def _nets_of(self, record: Record) -> list[Net]:
        shapes, images = images_between(self.history, record.position - 1, record.position)
        return net_of(images, shapes)

    def _present_arguments(self, outcome: Record) -> dict[str, Any] | None:
        """The recorded, validated arguments as a handler of another version would have validated them."""
        action, version = self.sandbox.bus.registry.find(outcome.action), outcome.handler_version
        if action is None or version is None or version >= action.handler.version:
            return None
        made = upcast(action.handler, dict(outcome.arguments), version)
        try:
            loaded = action.schema.load(made)
        except ValidationError:
            return made
        limits = self.sandbox.bus.application.limits
        told: dict[str, Any] = payload.loads(arguments_text(action, loaded, limits, Scrubber()))
        return told


def _identity(difference: Difference) -> str:
    return f"{difference.action} {difference.field} {payload.dumps(difference.now)}"
