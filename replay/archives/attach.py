"""Brings an archive back into the live tables, for `actionbus history attach`: the last one that was made, first.

All of it is one transaction, that of an action on record. Records that stayed are left as they are; images that became
the baseline at the cut are again what they were. Nothing else changes, so that history is what it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from actionbus.core import Application, Bus, InvalidArguments, Outcome
from actionbus.core.declare.application import narrowed
from actionbus.core.history.archiving import (
    ACTIONS,
    alone,
    erasures_made,
    records_upto,
    refuse_unfinished,
    require_owner,
    set_state,
)
from actionbus.core.history.carrying import Bringing
from actionbus.core.history.databases import database_of
from actionbus.core.storage.archive_ddl import ARCHIVED_KEYS, ATTACHED, ATTACHING
from actionbus.core.storage.archives import Archive, archives
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.names import in_text
from actionbus.replay.archives import transfer
from actionbus.replay.archives.archive import Watch, digest_of, read_manifest, verify
from actionbus.replay.archives.folders import JOURNAL, MANIFEST
from actionbus.replay.archives.lines import kind_of, lines_of
from actionbus.replay.errors import ReplayError

_ACTION: Final = "attach_archive"
_RECORDS: Final = 500
_IMAGES: Final = 5_000


def attach(bus: Bus, folder: Path, *, actor: str | None = None, operator: bool = False, watch: Watch) -> Outcome:
    """Bring back what an archive holds. Its result says how much that was, and how many erasures came since.

    Raises ReplayError for a folder that is not as it was written, or of another journal; InvalidArguments where another
    archive has to be attached first; PermissionDenied.
    """
    bus.journal.require()
    bus.backend.read(lambda connection: require_owner(bus.backend, connection))
    manifest, digest = read_manifest(folder), digest_of(folder / MANIFEST)
    if manifest["journal"] != bus.journal.identity():
        raise ReplayError(
            f"{folder} is of another journal, {manifest['journal']}; this one is {bus.journal.identity()}"
        )
    found = next((each for each in archives(bus.backend)[::-1] if each.digest == digest), None)
    if found is None:
        raise ReplayError(
            f"this database knows of no archive whose {MANIFEST} has the sha256 {digest}: it was altered, or is of a "
            "copy of this database; take a copy that is whole, or read it where it lies (`actionbus journal import`)"
        )
    verify(folder, watch)  # what is read from here on is what was written
    work = Attaching(bus.backend, found, folder, manifest, watch("attaching"))
    told = {"archive": found.archive, "digest": digest}
    return bus.operate(work.application(bus.application), _ACTION, told, actor=actor, operator=operator)


class Attaching:
    """The work of `attach_archive`, for one archive that was verified."""

    def __init__(
        self, backend: Backend, archive: Archive, folder: Path, manifest: dict[str, Any], advance: Callable[[], None]
    ) -> None:
        self._backend, self._archive, self._manifest = backend, archive, manifest
        self._path, self._advance = folder / JOURNAL, advance

    def application(self, application: Application) -> Application:
        """With the one action that does the work, and who is asked for its permission."""
        return narrowed(application, ACTIONS, archiving=self)

    def attach(self, session: Session) -> dict[str, Any]:
        """Bring it back, in the session's transaction. Raises InvalidArguments where that cannot be."""
        connection, home, own = session.connection(), in_text(self._backend.prefix), self._archive
        alone(connection, home)
        refuse_unfinished(self._backend, connection)
        self._refuse_later(connection)
        set_state(self._backend, connection, own.archive, ATTACHING)
        connection.execute(text(f"DELETE FROM {home}{ARCHIVED_KEYS} WHERE archive = :own"), {"own": own.archive})
        kept = text(f"SELECT position FROM {home}journal WHERE position <= :upto")
        there = set(connection.execute(kept, {"upto": own.upto}).scalars())
        lines = lines_of(self._path)
        next(lines)
        for kind, found in groupby(lines, key=kind_of):
            if kind == "record":
                self._records(connection, (each for each in found if each["position"] not in there))
            elif kind == "image":
                self._images(connection, found)
        records = records_upto(self._backend, connection, own.upto)
        if records != own.records:
            raise ReplayError(
                f"there are {records} records up to position {own.upto} now, and {own.records} were archived"
            )
        set_state(self._backend, connection, own.archive, ATTACHED)
        erasures = erasures_made(self._backend, connection)
        return {
            "archive": own.archive,
            "upto": own.upto,
            "records": own.records,
            "images": own.images,
            "erasures_since": erasures - self._manifest["erasures"],
        }

    def _refuse_later(self, connection: Connection) -> None:
        """What came after would not follow from what is brought back."""
        found = [each for each in archives(self._backend, connection) if each.state != ATTACHED]
        if all(each.archive != self._archive.archive for each in found):
            raise InvalidArguments({"archive": ["it is attached already"]})
        for each in found:
            if each.archive > self._archive.archive:
                what = f"that in {each.folder}" if each.table_name is None else f"a pruning of {each.table_name}"
                then = "attach that first" if each.table_name is None else "read this one where it lies instead"
                raise InvalidArguments({"archive": [f"{what} came after it; {then}"]})

    def _records(self, connection: Connection, told: Iterator[dict[str, Any]]) -> None:
        while batch := list(islice(told, _RECORDS)):
            transfer.append(connection, self._backend, batch, has_history=True, is_own=True)
            for _ in batch:
                self._advance()

    def _images(self, connection: Connection, told: Iterator[list[Any]]) -> None:
        images = database_of(connection).images(self._backend, connection)
        bringing = Bringing(self._backend, connection, is_own=True)
        while batch := list(islice(told, _IMAGES)):
            numbers = [each[0] for each in batch]
            there = {image for (image,) in images.rows_of(_BETWEEN, (min(numbers), max(numbers)))}
            bringing.images([each for each in batch if each[0] not in there])
            bringing.put_back([each for each in batch if each[0] in there and _was_other(each)])
            for _ in batch:
                self._advance()


_BETWEEN: Final = "SELECT image FROM {home}actionbus_images WHERE image BETWEEN ? AND ?"


def _was_other(image: Sequence[Any]) -> bool:
    """Whether an image was no baseline yet, nor a gap."""
    return image[2] not in ("b", "!")
