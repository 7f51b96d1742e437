"""One action whole: what was asked, what came of it, what it did to rows, what it caused. Bounded in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from actionbus.core.errors import HistoryError
from actionbus.core.journal import Journal
from actionbus.core.values.change import Change
from actionbus.core.values.record import Record

MOST_CAUSED: Final = 50
MOST_READ: Final = 20_000
"""Changes of rows that are read; of more none is told."""


@dataclass(frozen=True, slots=True)
class Whole:
    """An action, or a transaction past the gateway."""

    records: list[Record]
    """Submitted and outcome, or the bypass; oldest first."""
    changes: list[Change]
    has_more_changes: bool
    without_history: str | None
    """Why nothing is known of rows, where that is so."""
    caused: list[Record]
    """Of each action that it caused, one record: the outcome, if there is one."""
    has_more_caused: bool

    @property
    def outcome(self) -> Record | None:
        """The record of what came of it: its outcome, or the bypass that it is. None while it runs."""
        return next((each for each in self.records if each.kind != "submitted"), None)


def whole(journal: Journal, action_id: UUID, *, most: int, opened: bool = True) -> Whole:
    """The action of an id that is on record, at most so many changes of it."""
    records = journal.of_action(action_id, opened=opened)
    changes, why = _changes(journal, records[-1], most)
    caused, has_more = journal.caused_by([action_id], MOST_CAUSED).get(action_id, ([], False))
    return Whole(records, list(changes[:most]), len(changes) > most, why, caused, has_more)


def _changes(journal: Journal, last: Record, most: int) -> tuple[list[Change], str | None]:
    if last.kind == "submitted":
        return [], None
    if last.position > journal.settled():  # which the history would wait for
        return [], "its position is not settled yet; ask again"
    try:
        return list(journal.teller.needed().touched(last, MOST_READ)[: most + 1]), None
    except HistoryError as error:
        return [], str(error)
