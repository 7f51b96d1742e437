"""One subject's erasure as an action on record: what `Bus.erase` runs, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application, narrowed
from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.history.databases import database_of
from actionbus.core.history.declared import declare, read_declared
from actionbus.core.history.erasing import erase, receipt_for
from actionbus.core.history.fold import by_table
from actionbus.core.storage.archives import archives
from actionbus.core.storage.backend import Backend
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome

ACTION: Final = "erase_subject"
_ACTIONS: Final = "actionbus.core.history.actions"


@public
@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did, and where it had nothing to do."""

    outcome: Outcome
    """Of the action that is on record."""
    receipt: str
    """With it, whoever has it can show whose erasure the record is; it is kept nowhere else."""
    images: dict[str, int]
    """By table, how many images held values that are erased."""
    standing: dict[str, int]
    """By table, how many rows of the subject the application still has: to be removed by an action of its own."""
    keys: int
    """Of personal arguments, that were deleted."""
    archives: list[str]
    """Folders with row images of tables that have personal columns, which no erasure reaches: what of the subject is in
    them is there still. `replay.archives.archive_subjects` looks."""


class Work:
    """The work of one erasure, for a subject whom no record names."""

    def __init__(self, backend: Backend, declared: list[TableDeclaration], subject: object) -> None:
        self._backend = backend
        self._declared = declared
        self._subject = str(subject)
        self.receipt, self.commitment = receipt_for(self._subject)

    def run(self, session: Session) -> dict[str, Any]:
        """Erase, in the session's transaction; what was done."""
        connection, prefix = session.connection(), self._backend.prefix
        declare(self._backend, connection, self._declared)
        database = database_of(connection)
        personal = {name: kept.personal for name, kept in read_declared(connection, prefix).items()}
        shapes = by_table(database.shapes(connection, prefix))
        done = erase(database.store(connection, prefix, self.commitment), shapes, personal, self._subject)
        return done | {"archives": self._holding(connection, personal)}

    def _holding(self, connection: Connection, personal: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Where there may be images of the subject besides: of attached archives too, whose folders are left."""
        is_any = any(personal.values())
        return [each.folder for each in archives(self._backend, connection) if is_any and each.images and each.folder]

    def application(self, application: Application) -> Application:
        """With the one action that does the work, and who is asked for its permission."""
        return narrowed(application, _ACTIONS, erasing=self)

    def told(self, outcome: Outcome) -> Erasure:
        """What came of it as JSON, for the outcome's result."""
        done = outcome.result
        return Erasure(outcome, self.receipt, done["images"], done["standing"], done["keys"], done["archives"])
