"""Replayer: re-runs history with the present code, action after action, and tells what differs.

    with Replayer(bus.journal, application) as replayer:
        for step in replayer.steps():
            print(step, step.differences)

Each action runs on the state that the actions before it left. A succeeded one that then differs is tried again on the
state that it had `seen`, and on those between, since actions that overlapped may have committed in between its
statements: where one of these explains the difference, or where nothing but the overlap changes the outcome, it is
`concurrent` and no divergence. Differences where history was redacted are told from real ones by running the action
with other stand-ins: what changes with them was made of a secret.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from marshmallow import ValidationError
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from actionbus.core import Application, Journal, Record
from actionbus.core.gateway.execution import arguments_text
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload
from actionbus.replay.changes import RowChange
from actionbus.replay.divergence import Difference, compare
from actionbus.replay.errors import NeedsUpcast, ReplayError
from actionbus.replay.history import Entry, entries
from actionbus.replay.overlap import overlapping
from actionbus.replay.playback import PlayedWorld
from actionbus.replay.sandbox import Prepare, Rerun, Sandbox, upcast
from actionbus.replay.snapshots import Snapshot

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
WINDOW: Final = 2_000
"""How many outcomes back an overlapping action is looked for."""
_MOST_STATES: Final = 6
"""On how many states a differing action is tried again."""
_TROUBLE: Final = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that tell of the server rather than of the action."""
_NOT_THE_HANDLERS: Final = frozenset(
    {"IdempotencyConflict", "LimitExceeded", "AttemptsExhausted", "JournalUnavailable", "KeyboardInterrupt",
     "SystemExit", "GeneratorExit", "OutcomeUnknown"}
)  # fmt: skip


@dataclass(slots=True)
class Step:
    """One action run again. `verdict` is `same`, `divergent`, `concurrent` or `unplayable`."""

    entry: Entry
    rerun: Rerun | None
    verdict: str
    differences: list[Difference] = field(default_factory=list)
    follows: UUID | None = None
    """The earlier action whose difference may explain this one, since this one reads or writes a table of it."""
    overlapped: tuple[UUID, ...] = ()
    """Of a concurrent one: the actions that ran at the same time."""
    why: str | None = None
    """Of an unplayable one."""
    as_recorded: bool = False
    """Of a concurrent one: on a state that it may have seen it came out so, and the sandbox is as history was."""
    _changes: Callable[[], list[RowChange]] | None = None

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
        """Whether it counts: not concurrent, not unplayable."""
        return self.verdict == "divergent"

    @property
    def changes(self) -> list[RowChange]:
        """The rows it changed now. Ask while the step is the current one, or afterwards of a replayer that logs."""
        return self._changes() if self._changes else []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The outside calls that were played back."""
        return (payload.loads(self.rerun.outcome.calls) if self.rerun and self.rerun.outcome.calls else None) or []

    def __repr__(self) -> str:
        return f"<Step {self.position} {self.record.action} {self.verdict}>"


class Replayer:
    """Re-runs a journal's history in a sandbox.

    `database` is the sandbox: a URL or Engine of a database that is empty, or that an earlier replayer of the same
    journal and code has filled; for a journal on SQLite it is one in memory by default. `start` is the snapshot to
    begin with. `log` keeps every row change, so that the sandbox can go back; without it a replay is faster.
    `overrides` puts objects in place of dependencies. Raises ReplayError where a database must be given.
    """

    def __init__(
        self,
        journal: Journal,
        application: Application,
        database: str | URL | Engine | None = None,
        *,
        start: Snapshot | None = None,
        prepare: Prepare | None = None,
        overrides: Mapping[str, Any] | None = None,
        log: bool = True,
    ) -> None:
        self.journal = journal
        if database is None and journal.dialect != "sqlite":
            raise ReplayError(
                f"the journal is of {journal.dialect}: give an empty database of that dialect for the sandbox, or "
                "'sqlite://' if you accept that errors and values are then compared less closely"
            )
        self.sandbox = Sandbox(application, database or "sqlite://", prepare=prepare, overrides=overrides, log=log)
        self.start = start
        self.same_dialect = journal.dialect == self.sandbox.engine.dialect.name
        self._overlaps = log and journal.dialect == "postgresql"  # SQLite has one writer
        self._recent: deque[Record] = deque(maxlen=WINDOW)
        self._tainted: dict[str, Step] = {}
        """By table: the first action that left it other than history did."""
        if start is not None and self.sandbox.is_new:
            start.load(self.sandbox)

    def steps(
        self,
        upto: int | None = None,
        *,
        statuses: Collection[str] = ("succeeded",),
    ) -> Iterator[Step]:
        """Run what comes after the sandbox's state, one step at a time. Raises NeedsUpcast before anything is run."""
        self.check_versions(upto)
        after = self.sandbox.head
        if self.sandbox.at != after:
            self.sandbox.travel(after)
        if self._overlaps and not self._recent:
            self._recent.extend(self.journal.read(max(0, after - WINDOW), upto=after, kind="outcome"))
        for entry in entries(self.journal, self._first(after), upto):
            if self._is_contained(entry, after) or self._is_for_operators(entry):
                continue
            if entry.outcome.status in statuses or entry.outcome.status == "succeeded":
                yield self._step(entry)
            if self._overlaps:
                self._recent.append(entry.outcome)
        self.sandbox.commit()

    def _is_for_operators(self, entry: Entry) -> bool:
        """Whether it was decided about the machinery of that time, of which a sandbox has nothing."""
        action = self.sandbox.bus.registry.find(entry.outcome.action)
        return action is not None and action.for_operators

    def _first(self, after: int) -> int:
        """Where to read from: what was in flight when the snapshot was taken lies before its position."""
        if self.start is not None and self.start.missing and after == self.start.position:
            return min(self.start.missing) - 1
        return after

    def _is_contained(self, entry: Entry, after: int) -> bool:
        if self.start is not None and entry.position <= self.start.position:
            return self.start.contains(entry.outcome)
        return entry.position <= after

    def run(self, upto: int | None = None) -> None:
        """Run everything, without looking."""
        for _ in self.steps(upto):
            pass

    def check_versions(self, upto: int | None = None) -> None:
        """Raise NeedsUpcast for succeeded actions of versions that the present handlers cannot read."""
        registry, missing = self.sandbox.bus.registry, []
        for name, version, position in self.journal.versions(self.sandbox.head, upto):
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

    def close(self, *, keep: bool = True) -> None:
        """Let go of the sandbox; see `Sandbox.close`."""
        self.sandbox.close(keep=keep)

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is None)

    def _step(self, entry: Entry) -> Step:
        sandbox = self.sandbox
        if why := why_not_replayable(entry):
            return self._finish(Step(entry, None, "unplayable", why=why))
        succeeded = entry.outcome.status == "succeeded"
        if not succeeded:
            return self._failed_step(entry)
        rerun = sandbox.run(entry)
        differences = self.compare(entry, rerun)
        if not differences and not rerun.unplayable:
            sandbox.keep(rerun)
            return self._finish(Step(entry, rerun, "same"))
        return self._finish(self._explained(entry, rerun, differences))

    def compare(self, entry: Entry, rerun: Rerun) -> list[Difference]:
        """What differs between an action of history and a re-run of it in this sandbox."""
        tables = None if self.same_dialect else self.sandbox.tables()
        return compare(entry, rerun, tables=tables, present=self._present_arguments)

    def _explained(self, entry: Entry, rerun: Rerun, differences: list[Difference]) -> Step:
        """Why a succeeded action differs, after trying it with other stand-ins and on the states it may have seen."""
        sandbox = self.sandbox
        if rerun.unplayable:
            sandbox.keep(rerun)
            return Step(entry, rerun, "unplayable", differences, why=rerun.unplayable[0])
        if why := _decided_by_a_secret(entry, rerun):
            sandbox.keep(rerun)
            return Step(entry, rerun, "unplayable", differences, why=why)
        if rerun.stood_in:
            sandbox.drop(rerun)
            differences = self._without_secrets(entry, differences)
            rerun = sandbox.run(entry)
            if not differences:
                sandbox.keep(rerun)
                return Step(entry, rerun, "same")
        others = overlapping(entry, self._recent)
        if others:
            sandbox.drop(rerun)
            found = self._among_states(entry, differences, others)
            if found is not None:
                return found
            rerun = sandbox.run(entry)
        sandbox.keep(rerun)
        return Step(entry, rerun, "divergent", differences, follows=self._cause(rerun))

    def _without_secrets(self, entry: Entry, differences: list[Difference]) -> list[Difference]:
        """The differences that stay as they are whatever stands in for the secrets."""
        kept = differences
        for salt in (1, 2):
            again = self.sandbox.run(entry, world=PlayedWorld(entry, salt))
            now = set(map(_identity, self.compare(entry, again)))
            self.sandbox.drop(again)
            kept = [each for each in kept if _identity(each) in now]
        return kept

    def _among_states(self, entry: Entry, differences: list[Difference], others: list[Record]) -> Step | None:
        """Try the states that the action may have seen: without all of the overlapping ones, then with ever more."""
        sandbox = self.sandbox
        positions = [record.position for record in others]
        outcomes = {_fingerprint(differences)}
        for number in _spread(len(positions)):
            with sandbox.aside():
                sandbox.log.undo(positions[number:])
                again = sandbox.run(entry)
                found = self.compare(entry, again)
                changes = sandbox.log.changes([entry.position]) if not found else []
                sandbox.drop(again)
            outcomes.add(_fingerprint(found))
            if not found and not again.unplayable:
                self._put_on_top(entry, changes)
                ids = tuple(record.action_id for record in others)
                return Step(entry, again, "concurrent", differences, overlapped=ids, as_recorded=True)
        if len(outcomes) == 1:
            return None
        rerun = sandbox.run(entry)
        sandbox.keep(rerun)
        return Step(entry, rerun, "concurrent", differences, overlapped=tuple(r.action_id for r in others))

    def _put_on_top(self, entry: Entry, changes: list[RowChange]) -> None:
        """Write what the action wrote on the state that it saw onto the state as it is now."""
        self.sandbox.log.begin(entry.position)
        self.sandbox.log.overwrite(changes)

    def _failed_step(self, entry: Entry) -> Step:
        """A rejected, denied or failed action, on the state that it saw; nothing of it stays."""
        sandbox = self.sandbox
        others = overlapping(entry, self._recent)
        positions = [record.position for record in others]
        best: tuple[Rerun, list[Difference]] | None = None
        outcomes = set()
        for number in [*_spread(len(positions)), len(positions)]:
            with sandbox.aside():
                if positions[number:]:
                    sandbox.log.undo(positions[number:])
                rerun = sandbox.run(entry)
                differences = self.compare(entry, rerun)
                if differences and rerun.stood_in:
                    sandbox.drop(rerun)
                    differences = self._without_secrets(entry, differences)
                sandbox.drop(rerun)
            if rerun.unplayable:
                return self._finish(Step(entry, rerun, "unplayable", differences, why=rerun.unplayable[0]))
            if not differences:
                return self._finish(Step(entry, rerun, "same"))
            if why := _decided_by_a_secret(entry, rerun):
                return self._finish(Step(entry, rerun, "unplayable", differences, why=why))
            outcomes.add(_fingerprint(differences))
            best = best or (rerun, differences)
        assert best is not None
        rerun, differences = best
        if len(outcomes) > 1:
            ids = tuple(record.action_id for record in others)
            return self._finish(Step(entry, rerun, "concurrent", differences, overlapped=ids))
        return self._finish(Step(entry, rerun, "divergent", differences, follows=self._cause(rerun)))

    def _cause(self, rerun: Rerun) -> UUID | None:
        """The earliest differing action that left a table otherwise which this one's statements name."""
        if not self._tainted:
            return None
        words = {word for statement in rerun.statements for word in _WORD.findall(statement)}
        found = [step for table, step in self._tainted.items() if table.rpartition(".")[2] in words]
        return min(found, key=lambda step: step.position).entry.action_id if found else None

    def _finish(self, step: Step) -> Step:
        position = step.position
        if step.verdict in ("divergent", "unplayable", "concurrent") and step.record.status == "succeeded":
            self._taint(step)
        if step.verdict == "divergent" and step.follows is not None:
            root = next((each for each in self._tainted.values() if each.entry.action_id == step.follows), None)
            if root is not None and root.verdict in ("unplayable", "concurrent"):
                step.verdict = root.verdict
                step.why = f"it follows from {root.verdict} {root.record.action} at position {root.position}"
        if step.record.status == "succeeded":
            self.sandbox.advance(step.entry, step.verdict)
        if self.sandbox.logging:
            step._changes = lambda: self.sandbox.changes(position)
        return step

    def _taint(self, step: Step) -> None:
        if step.as_recorded:
            return
        rows = [*((step.record.touched or {}).get("rows", ()))]
        if step.rerun is not None and step.rerun.outcome.touched:
            rows += payload.loads(step.rerun.outcome.touched).get("rows", ())
        for table in dict.fromkeys(row["table"] for row in rows):
            self._tainted.setdefault(table, step)

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
    return f"{difference.action} {difference.field} {payload.dumps(difference.actual)}"


def _fingerprint(differences: list[Difference]) -> str:
    return "\n".join(map(_identity, differences))


def _spread(count: int) -> list[int]:
    """At most `_MOST_STATES` numbers from 0 up to `count`, exclusive, the first of them 0."""
    if count <= _MOST_STATES:
        return list(range(count))
    return sorted({round(number * (count - 1) / (_MOST_STATES - 1)) for number in range(_MOST_STATES)})


def why_not_replayable(entry: Entry) -> str | None:
    """Why an action cannot be run again at all, or None."""
    asked, outcome = entry.submitted, entry.outcome
    error = outcome.error or {}
    name = str(error.get("type", "")).rpartition(":")[2]
    if outcome.status == "interrupted":
        return "it was interrupted, so nobody knows how far it came"
    if asked.seed is None:
        return "its seed is not there any more"
    if "$summary" in asked.arguments or any(_is_left_out(value) for value in asked.arguments.values()):
        return "its arguments were too large, or not JSON, and were not kept"
    if name in _NOT_THE_HANDLERS or str(error.get("sqlstate", "00"))[:2] in _TROUBLE:
        return f"it ended by {name or 'an error'}, which is not the handler's doing"
    if "idempotency_key" in (error.get("errors") or {}):
        return "its idempotency key was refused, and is not kept"
    if outcome.status == "failed" and "withdrawn" in error:
        return "it was withdrawn"
    return None


def _is_left_out(value: Any) -> bool:
    return isinstance(value, dict) and "$unencodable" in value


def _decided_by_a_secret(entry: Entry, rerun: Rerun) -> str | None:
    """Why an action cannot be compared whose secret argument is not kept: with a stand-in for it, it ends otherwise."""
    was, now = entry.outcome, rerun.outcome
    if not rerun.redacted:
        return None
    errors = (payload.loads(now.error) if now.error else {}).get("errors") or {}
    before = (was.error or {}).get("errors") or {}
    if was.status == now.status and before.keys() == errors.keys():
        return None
    return (
        f"with a stand-in for a secret argument it {now.status}; the real one, with which it {was.status}, is not kept"
    )
