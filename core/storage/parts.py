"""One transaction in which several actions run, each in a savepoint: what a chunk asks of a database.

`storage.postgresql_parts` and `storage.sqlite_parts` answer; made by `Backend.parts`, used by `gateway.chunk`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.storage.rows import Row, Statement

POINT: Final = "actionbus_part"
"""The savepoint before an action's part."""


class HeldRecords(NamedTuple):
    """Which of some actions' records the journal holds."""

    submitted: frozenset[UUID]
    settled: frozenset[UUID]
    """Those that have an outcome."""

    @classmethod
    def of(cls, found: Iterable[tuple[UUID, str]]) -> HeldRecords:
        """Of ids and kinds of records."""
        records = list(found)
        return cls(
            *(frozenset(each for each, kind in records if kind == wanted) for wanted in ("submitted", "outcome"))
        )


class Parts(ABC):
    """One transaction, begun when the first part needs it, in which one action after the other has its part."""

    def __init__(self, connection: Connection, isolation: str) -> None:
        self._connection = connection
        self._isolation = isolation
        self.has_begun = False
        self.is_ending = False
        """Whether the end of the last part is yet to be sent: by `enter` with the next one's beginning, or `settle`."""

    @property
    @abstractmethod
    def must_end(self) -> bool:
        """Whether what the last part left cannot be put back for the next one, so that the transaction ends with it."""

    @abstractmethod
    def enter(self, action_id: UUID) -> str:
        """An action's part begins: from here on changed rows are its own. The snapshot of the database that it sees.

        If the one before `is_ending`, what is raised is that one's, and this one has not begun.
        """

    @abstractmethod
    def leave(self, action_id: UUID) -> None:
        """It ends well, with all that was deferred done. Raises the driver's error, or Misuse if it ended more.

        Or else it `is_ending`, and what ends it raises that.
        """

    @abstractmethod
    def settle(self) -> None:
        """Send the end of the part that `is_ending`."""

    @abstractmethod
    def undo(self) -> None:
        """It ends with nothing done. Raises Misuse if the savepoint is gone, since the handler ended more than that.

        And the driver's error if it is gone since `is_ending` was sent so far.
        """

    @abstractmethod
    def append(self, action_id: UUID, rows: Sequence[Row], also: Sequence[Statement]) -> None:
        """What is to be written for an action whose part is over: the last row is its outcome."""

    @abstractmethod
    def commit(self, lock: UUID | None) -> list[int]:
        """Write what was appended and commit; the position of each outcome. `lock` is given back with it, if given.

        Raises CommitConflict if an action has an outcome already, and the driver's errors.
        """
