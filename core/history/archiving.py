"""Archives the journal and the row history up to a cut: what is decided by an action, and what is then removed.

The order is: an archive is written and verified (`replay.archives.archive`); an action, on record, notes it
(`Archiving`), from where on nobody is told of what it holds; and then that goes, in small transactions (`Removal`).
Killed before the action, nothing has happened; killed after it, whoever comes next goes on. See decision 0033.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application, narrowed
from actionbus.core.errors import HistoryError, InvalidArguments, PermissionDenied
from actionbus.core.history.databases import database_of
from actionbus.core.history.images import Cut
from actionbus.core.history.recorded import holds
from actionbus.core.history.thinning import Thinning
from actionbus.core.journal import Journal
from actionbus.core.storage.archive_ddl import ARCHIVED_KEYS, ARCHIVES, REMOVED, REMOVING
from actionbus.core.storage.archives import Archive, archives
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.core.storage.pooling import HOLDING
from actionbus.core.storage.privacy_ddl import ERASURES
from actionbus.core.storage.totals import keep_totals
from actionbus.core.storage.unfinished import forget_finished
from actionbus.core.values import payload

ACTIONS: Final = "actionbus.core.history.archive_actions"
_RECORDS: Final = 2_000
"""Positions that one transaction removes."""
Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ArchiveCut:
    """Where history is cut."""

    after: int
    """The end of the archive before this one; 0 if it is the first."""
    cut: Cut
    shapes: tuple[int, ...]
    """In force there."""

    @property
    def upto(self) -> int:
        """The last position that goes."""
        return self.cut.position


def place_at(journal: Journal, upto: int) -> ArchiveCut:
    """Where to cut so that a position is the last that goes, or one shortly before it that ends no transaction midway.

    Raises HistoryError for one that there is not yet, or that lies before history begins.
    """
    backend, settled, before = journal.backend, journal.settled(wait=True), upto + 1
    if upto > settled:
        raise HistoryError(f"position {upto} is not settled: the journal ends at {settled}; archive an earlier part")
    with backend.connection() as connection:
        database = database_of(connection)
        images = database.images(backend, connection)
        with images.snapshot():
            begun = images.archived()
            after = begun.upto if begun else 0
            while (inner := _inside(images.rows_of, upto)) is not None:
                upto = inner - 1
            if upto <= after or not images.rows_of("SELECT 1 FROM {home}journal WHERE position <= ? LIMIT 1", (upto,)):
                raise HistoryError(f"there is nothing to archive before {before}: history begins after {after}")
            cut = images.cut(upto, is_end=False)
            shapes = database.shapes(connection, backend.prefix)
            return ArchiveCut(after, cut, tuple(each.shape for each in shapes if holds(images, each, cut)))


_SPLIT: Final = (
    # Nested actions' records come before their outer one's, and the images of both lie in its range.
    """SELECT min(n.position) FROM {home}journal n JOIN {home}journal o ON o.action_id = n.cause_id
    AND o.kind = 'outcome' WHERE n.position <= ? AND o.position > ?""",
    # A transaction past the gateway may have two records.
    """SELECT min(n.position) FROM {home}journal n JOIN {home}journal o ON o.xid = n.xid AND o.kind = 'bypass'
    WHERE n.kind = 'bypass' AND n.position <= ? AND o.position > ?""",
)


def _inside(rows_of: Callable[..., Sequence[Any]], upto: int) -> int | None:
    """The first record of a transaction that a cut would split."""
    found = [rows_of(sql, (upto, upto))[0][0] for sql in _SPLIT]
    return min((each for each in found if each is not None), default=None)


class Archiving:
    """The work of `archive_history`, for one archive that was written and verified."""

    def __init__(self, journal: Journal, place: ArchiveCut, manifest: dict[str, Any], digest: str, folder: str) -> None:
        self._journal, self._backend = journal, journal.backend
        self._place, self._manifest, self._digest, self._folder = place, manifest, digest, folder

    def application(self, application: Application) -> Application:
        """With the one action that does the work, and who is asked for its permission."""
        return narrowed(application, ACTIONS, archiving=self)

    def archive(self, session: Session) -> dict[str, Any]:
        """Note the archive, in the session's transaction. Raises InvalidArguments where it may not be made."""
        connection, prefix, upto = session.connection(), in_text(self._backend.prefix), self._place.upto
        alone(connection, prefix)
        refuse_unfinished(self._backend, connection)
        begun = self._journal.begins.archive(connection)
        if (begun.upto if begun else 0) != self._place.after:
            raise _refused(f"somebody else archived history up to position {begun and begun.upto} meanwhile")
        refuse_readers(self._backend, connection, upto)
        self._refuse_changed(connection)
        keep_totals(connection, self._backend, upto)
        forget_finished(connection, self._backend)
        number = note(self._backend, connection, self._place, None, self._told())
        keys = connection.execute(
            text(
                f"INSERT INTO {prefix}{ARCHIVED_KEYS} SELECT s.idempotency_key, s.action, coalesce(s.actor, ''), "
                f"s.action_id, s.position, o.position, o.status, :archive FROM {prefix}journal s "
                f"JOIN {prefix}journal o ON o.action_id = s.action_id AND o.kind = 'outcome' AND o.position <= :upto "
                "WHERE s.kind = 'submitted' AND s.idempotency_key IS NOT NULL AND s.position <= :upto"
            ),
            {"archive": number, "upto": upto},
        ).rowcount
        return {
            "archive": number,
            "upto": upto,
            "records": self._manifest["records"],
            "images": self._manifest["images"],
            "keys": keys,
        }

    def _told(self) -> dict[str, Any]:
        return {
            "folder": self._folder,
            "digest": self._digest,
            "records": self._manifest["records"],
            "images": self._manifest["images"],
        }

    def _refuse_changed(self, connection: Connection) -> None:
        manifest = self._manifest
        records = records_upto(self._backend, connection, self._place.upto)
        erasures = erasures_made(self._backend, connection)
        if (records, erasures) != (manifest["records"], manifest["erasures"]):
            raise _refused(
                f"the archive has {manifest['records']} records and is of {manifest['erasures']} erasures; here are "
                f"{records} records and {erasures} erasures: remove {self._folder} and archive anew"
            )


def require_owner(backend: Backend, connection: Connection) -> None:
    """Raises PermissionDenied for a role that may not remove what is archived. Asked before anything is written."""
    if connection.dialect.name != "postgresql":
        return
    asked = text(
        "SELECT current_user, has_table_privilege(to_regclass(:archives), 'INSERT') "
        "AND has_table_privilege(to_regclass(:journal), 'DELETE')"
    )
    given = {"archives": f"{backend.prefix}{ARCHIVES}", "journal": backend.journal_name}
    who, is_allowed = connection.execute(asked, given).one()
    if not is_allowed:
        raise PermissionDenied(
            "history is archived, attached again and pruned by the owner of its tables, and the database knows you as "
            f"{who}: connect as the owner"
        )


def refuse_readers(backend: Backend, connection: Connection, upto: int) -> None:
    """Raises InvalidArguments while somebody has yet to read records up to a position. Asked before an archive is
    written, and where it is decided."""
    behind = text(
        f"SELECT index_name, position, refused FROM {in_text(backend.prefix)}actionbus_checkpoints "
        "WHERE position < :upto OR refused IS NOT NULL ORDER BY 1"
    )
    names = [
        f"{name} (at {position})"
        for name, position, refused in connection.execute(behind, {"upto": upto})
        if position < upto or any(each <= upto for each in json.loads(refused or "[]"))
    ]
    if names:
        raise _refused(
            f"records up to position {upto} are still to be read by: {', '.join(names)}; let them, or "
            "remove them (`actionbus projections prune`, `actionbus subscriptions reset`)"
        )


def records_upto(backend: Backend, connection: Connection, upto: int) -> int:
    """How many records are here up to a position."""
    counted = text(f"SELECT count(*) FROM {in_text(backend.prefix)}journal WHERE position <= :upto")
    return int(connection.execute(counted, {"upto": upto}).scalar_one())


def erasures_made(backend: Backend, connection: Connection) -> int:
    """How many erasures there were, each of which an archive of before knows nothing of."""
    return int(connection.execute(text(f"SELECT count(*) FROM {in_text(backend.prefix)}{ERASURES}")).scalar_one())


def alone(connection: Connection, prefix: str) -> None:
    """Nobody else archives, attaches or prunes until the transaction ends. SQLite has one writer anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {prefix}{ARCHIVES} IN SHARE ROW EXCLUSIVE MODE"))


def refuse_unfinished(backend: Backend, connection: Connection) -> None:
    """Raises InvalidArguments while something that was archived before is still being removed."""
    if any(each.is_unfinished for each in archives(backend, connection)):
        raise _refused("an earlier archive is still being removed: `actionbus history archive` goes on with it")


def note(backend: Backend, connection: Connection, place: ArchiveCut, table: str | None, told: dict[str, Any]) -> int:
    """Note what is to be removed, in the transaction of the action that decides it; its number."""
    own, moment, home = connection.info[HOLDING], place.cut.moment, in_text(backend.prefix)
    assert moment is not None, "a record was there"
    is_postgresql = connection.dialect.name == "postgresql"
    given = {
        "table_name": table,
        "state": REMOVING,
        "after": place.after,
        "upto": place.upto,
        "image": place.cut.image,
        "ended": place.cut.ended,
        "moment": backend.stored(moment),
        "shapes": list(place.shapes) if is_postgresql else payload.dumps(list(place.shapes)),
        **told,
        "action_id": backend.written_id(own),
    }
    values = ", ".join(f":{name}" for name in given)
    actor = f"(SELECT actor FROM {home}journal WHERE action_id = :action_id AND kind = 'submitted')"
    into = f"INSERT INTO {home}{ARCHIVES} ({', '.join(given)}, actor) VALUES ({values}, {actor}) RETURNING archive"
    return int(connection.execute(text(into), given).scalar_one())


def set_state(backend: Backend, connection: Connection, archive: int, state: str) -> None:
    """Note how far an archive is, in the connection's transaction, unless somebody else has."""
    done = text(
        f"UPDATE {in_text(backend.prefix)}{ARCHIVES} SET state = :state WHERE archive = :archive AND state <> :state"
    )
    connection.execute(done, {"state": state, "archive": archive})


class Removal:
    """Removes what archives hold, as their rows say; what is done already is passed over."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._backend = journal, journal.backend

    def unfinished(self) -> list[Archive]:
        """What is to be removed."""
        return [each for each in archives(self._backend) if each.is_unfinished]

    def finish(self, begun: Callable[[], Progress]) -> list[Archive]:
        """Remove all that is to be removed; what that was. `begun` is called for each, and gives its progress."""
        found = self.unfinished()
        for each in found:
            self.run(each, begun())
        return found

    def run(self, archive: Archive, progress: Progress) -> None:
        """Remove all of one archive."""
        # Whoever was appending when it was noted has not seen its keys; once they have ended, nobody is left.
        self._journal.outlast_writers()
        # Records go once all images have gone, and tell of these what they are.
        if archive.table_name is not None or not self._has_begun_with_records(archive):
            Thinning(self._backend, archive, progress).run()
        if archive.table_name is None:
            self._remove_records(archive, progress)
        with self._backend.engine.begin() as connection, self._backend.placed(connection):
            set_state(self._backend, connection, archive.archive, REMOVED)

    def _has_begun_with_records(self, archive: Archive) -> bool:
        here = self._backend.read(lambda connection: records_upto(self._backend, connection, archive.upto))
        return here < archive.records

    def _remove_records(self, archive: Archive, progress: Progress) -> None:
        """In the order of positions: an action's outcome goes after what was submitted, which is told by it.

        What was submitted and has its outcome beyond the cut, or none yet, stays: it is in the archive besides.
        """
        journal = in_text(self._backend.journal_name)
        last = text(
            f"SELECT max(p.position) FROM (SELECT position FROM {journal} WHERE position > :low "
            "AND position <= :upto ORDER BY position LIMIT :size) p"
        )
        gone = text(
            f"DELETE FROM {journal} WHERE position > :low AND position <= :high AND (kind <> 'submitted' OR "
            f"EXISTS (SELECT 1 FROM {journal} o WHERE o.action_id = journal.action_id AND o.kind = 'outcome' "
            "AND o.position <= :upto))"
        )
        low: int | None = 0
        while low is not None:
            with self._backend.engine.begin() as connection, self._backend.placed(connection):
                found = {"low": low, "upto": archive.upto, "size": _RECORDS}
                high = connection.execute(last, found).scalar()
                if high is not None:
                    for _ in range(connection.execute(gone, {**found, "high": high}).rowcount):
                        progress()
            low = high


def _refused(why: str) -> InvalidArguments:
    return InvalidArguments({"upto": [why]})
