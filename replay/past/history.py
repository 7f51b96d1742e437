"""History as a replay needs it: a top-level action after the other, each with its nested ones, as outcomes took effect.

The order of outcomes is an order in which the actions could have run one by one, as far as they lock what they decide
on: an outcome's position is drawn by the last statement of its transaction, so whoever waited for a lock of that
transaction drew a later one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from actionbus.core import Journal, Record
from actionbus.replay.errors import ReplayError


class Entry(NamedTuple):
    """One action of history. `nested` ran inside its transaction, in the order of their outcomes.

    `queued` are the submitted records of actions that it queued.
    """

    submitted: Record
    outcome: Record
    nested: tuple[Entry, ...] = ()
    queued: tuple[Record, ...] = ()

    @property
    def position(self) -> int:
        """Where its outcome lies."""
        return self.outcome.position

    @property
    def action_id(self) -> UUID:
        """The action's id."""
        return self.outcome.action_id

    @property
    def started_at(self) -> datetime:
        """When its execution began, which is what its clock told; an action that came to none: its outcome's time."""
        return self.outcome.started_at or self.outcome.recorded_at

    def all(self) -> Iterator[Entry]:
        """The nested ones at any depth, then this one."""
        for each in self.nested:
            yield from each.all()
        yield self


def entries(journal: Journal, after: int = 0, upto: int | None = None) -> Iterator[Entry]:
    """The actions whose outcomes lie beyond `after` and no further than `upto`. Memory: those in flight at a time."""
    asked: dict[UUID, Record] = {}
    nested: dict[UUID, list[Entry]] = {}
    caused: dict[UUID, dict[UUID, Record]] = {}
    for record in journal.read(after, upto=upto):
        if record.kind == "submitted":
            asked[record.action_id] = record
            if record.cause_id is not None:
                caused.setdefault(record.cause_id, {})[record.action_id] = record
            continue
        if record.kind == "bypass":
            continue  # nobody asked for anything that could be run again
        is_nested = record.cause_id is not None and _is_nested(journal, record, asked)
        if record.action_id not in asked and not is_nested:
            # It was submitted before `after`, where records of its nested ones may lie too.
            nested.pop(record.action_id, None)
            if (whole := entry_of(journal, record.action_id)) is not None:
                yield whole
            continue
        submitted = asked.pop(record.action_id, None) or journal.submitted(record.action_id)
        if submitted is None:
            continue  # an outcome without its submitted record: nothing tells what was asked
        queued = tuple(caused.pop(record.action_id, {}).values())
        entry = Entry(submitted, record, tuple(nested.pop(record.action_id, ())), queued)
        if record.cause_id is not None and is_nested:
            nested.setdefault(record.cause_id, []).append(entry)
            caused.get(record.cause_id, {}).pop(record.action_id, None)
        else:
            yield entry


def entry_of(journal: Journal, action_id: UUID) -> Entry | None:
    """One action with its nested ones, or None if it has no outcome."""
    outcome = journal.outcome(action_id)
    submitted = journal.submitted(action_id)
    if outcome is None or submitted is None:
        return None
    caused = list(journal.read(upto=outcome.position, cause_id=action_id))
    ended = [record.action_id for record in caused if record.kind == "outcome"]
    nested = tuple(entry for each in ended if (entry := entry_of(journal, each)))
    return Entry(submitted, outcome, nested, tuple(each for each in caused if each.action_id not in ended))


def first_position(entry: Entry) -> int:
    """That of the first outcome of an action or of one nested in it, which was appended in its transaction."""
    return min(each.position for each in entry.all())


def whole(journal: Journal, action_id: UUID) -> Entry:
    """An action, or the one in whose transaction it ran. Raises ReplayError."""
    found = entry_of(journal, outermost(journal, action_id))
    if found is None:
        begun = journal.begins.archive()
        where = f"; {begun.where()}" if begun else ""
        raise ReplayError(f"the journal has no outcome of an action {action_id}{where}")
    return found


def outermost(journal: Journal, action_id: UUID) -> UUID:
    """The top-level action in whose transaction an action ran; itself, if it was one."""
    record = journal.outcome(action_id)
    while record is not None and record.cause_id is not None:
        cause = journal.outcome(record.cause_id)
        if cause is None or cause.position < record.position:
            break
        record = cause
    return record.action_id if record is not None else action_id


def _is_nested(journal: Journal, record: Record, asked: dict[UUID, Record]) -> bool:
    """Nested records lie before the outcome of their cause; what was queued from inside one gets its own after it."""
    assert record.cause_id is not None
    if record.cause_id in asked:
        return True
    cause = journal.outcome(record.cause_id)
    return cause is None or cause.position > record.position
