"""Where history begins: what was archived or pruned, as `actionbus_archives` has it. Read by journal and history.

Whoever is asked for what lies before says where it is, rather than answer as if there had been nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from actionbus.core.errors import HistoryArchived, OutcomeArchived
from actionbus.core.storage.archive_ddl import ARCHIVED_KEYS, ARCHIVES, ATTACHED, REMOVING
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.values.change import Source

ARCHIVE_ACTION: Final = "archive_history"
PRUNE_ACTION: Final = "prune_history"
COLUMNS: Final = (
    "archive, table_name, state, after, upto, image, ended, moment, shapes, folder, digest, records, images, actor, "
    "action_id, made_at"
)
GONE: Final = f"SELECT {COLUMNS} FROM {{home}}{ARCHIVES} WHERE state <> '{ATTACHED}' ORDER BY upto, archive"
"""Of all that is not here any more; `{home}` is what stands before a name of ours."""
_KEY: Final = f"""SELECT k.action_id, k.outcome, k.status, a.folder FROM {{home}}{ARCHIVED_KEYS} k
    LEFT JOIN {{home}}{ARCHIVES} a ON a.archive = k.archive
    WHERE k.idempotency_key = :key AND k.action = :action AND k.actor = :actor"""
_ALL: Final = f"SELECT {COLUMNS} FROM {{home}}{ARCHIVES} ORDER BY archive"


class Archive(NamedTuple):
    """One archive; or, with a `table_name`, one pruning of a table's row history, of which nothing is kept."""

    archive: int
    table_name: str | None
    state: str
    after: int
    upto: int
    """The last position that it holds. The state of tables there is known: later images begin with it."""
    image: int
    ended: int
    moment: datetime
    """These three as `history.images.Cut` has them, of the position `upto`."""
    shapes: frozenset[int]
    """The shapes in force there, whose images it took, or made the baseline at the cut."""
    folder: str | None
    digest: str | None
    """sha256 of the archive's manifest."""
    records: int
    images: int
    actor: str | None
    action_id: UUID
    made_at: datetime

    @property
    def source(self) -> Source:
        """Whose the baseline at the cut is."""
        action = ARCHIVE_ACTION if self.table_name is None else PRUNE_ACTION
        return Source(self.upto, self.action_id, "archive", action, self.actor, self.moment, None, None)

    @property
    def is_unfinished(self) -> bool:
        """Whether what it took is still being removed."""
        return self.state == REMOVING

    def where(self) -> str:
        """Where history begins and what lies before it, for people."""
        if self.table_name is not None:
            return f"the row history of {self.table_name} before position {self.upto} was pruned, and is gone"
        earlier = f" (before position {self.after} in others: `actionbus history archives`)" if self.after else ""
        return (
            f"history before position {self.upto} is archived in {self.folder}{earlier}: `actionbus history attach "
            f"{self.folder}` brings it back, `actionbus journal import` reads it into another database"
        )

    def told(self) -> dict[str, Any]:
        """The archive as JSON, for results and commands."""
        return {
            "archive": self.archive,
            "table": self.table_name,
            "state": self.state,
            "after": self.after,
            "upto": self.upto,
            "folder": self.folder,
            "digest": self.digest,
            "records": self.records,
            "images": self.images,
            "actor": self.actor,
            "action_id": self.action_id,
            "made_at": self.made_at,
        }


def decoded(backend: Backend, row: Sequence[Any]) -> Archive:
    """A row of `COLUMNS` as the driver gives it."""
    archive, table, state, after, upto, image, ended, moment, shapes, *named, actor, action_id, made_at = row
    folder, digest, records, images = named
    numbers = frozenset(json.loads(shapes) if isinstance(shapes, str) else shapes)
    own = UUID(str(action_id))
    return Archive(
        archive,
        table,
        state,
        after,
        upto,
        image,
        ended,
        backend.utc(moment),
        numbers,
        folder,
        digest,
        records,
        images,
        actor,
        own,
        backend.utc(made_at),
    )


def archives(backend: Backend, connection: Connection | None = None) -> list[Archive]:
    """All that there ever were, oldest first; in the transaction of a connection, if one is given."""
    return [decoded(backend, row) for row in _rows(backend, _ALL, connection)]


def _rows(backend: Backend, sql: str, inside: Connection | None) -> Sequence[Sequence[Any]]:
    def rows(used: Connection) -> Sequence[Sequence[Any]]:
        return used.execute(text(sql.format(home=in_text(backend.prefix)))).all()  # which is known once it is placed

    return backend.read(rows) if inside is None else rows(inside)


class Beginning:
    """Where the journal of one database begins, asked each time: another process may archive or attach meanwhile."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def archive(self, connection: Connection | None = None) -> Archive | None:
        """The archive that holds what comes before the first record that is here; None if nothing does.

        In the transaction of a connection, if one is given.
        """
        rows = _rows(self._backend, GONE, connection)
        return next((each for row in reversed(rows) if (each := decoded(self._backend, row)).table_name is None), None)

    def position(self) -> int:
        """Up to which position records are gone; 0 if none are."""
        found = self.archive()
        return found.upto if found else 0

    def require(self, after: int) -> None:
        """Raises HistoryArchived where records beyond `after` are not here any more."""
        found = self.archive()
        if found is not None and after < found.upto:
            raise HistoryArchived(found.where())

    def refuse_key(self, action: str, actor: str | None, key: str, connection: Connection | None = None) -> None:
        """Raises OutcomeArchived where an idempotency key was used by an action that is archived."""
        asked = {"key": key, "action": action, "actor": actor or ""}

        def find(used: Connection) -> Any:
            return used.execute(text(_KEY.format(home=in_text(self._backend.prefix))), asked).first()

        row = self._backend.read(find, connection)
        if row is not None:
            found, position, status, folder = row
            own = UUID(str(found))
            error = OutcomeArchived(
                f"the idempotency key was used for action {own}, which {status}; its outcome, at position {position}, "
                f"is archived in {folder}: `actionbus history attach {folder}` brings it back; nothing was run again"
            )
            error.action_id = own
            raise error
