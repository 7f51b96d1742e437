"""Archives history into a folder, and tells what archives there are: `actionbus history archive` and `archives`.

An archive is a folder: `journal.gz`, an exported journal with its row history (`transfer`), and `manifest.json`,
which says what it holds and has the files' checksums. It is written beside where it is to be, read back and compared
with what was written, and then put there by one rename; only then `core.history.archiving` takes what it holds out of
the database. So a folder without the suffix `.partial` is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from actionbus.core import Bus, OutcomeUnknown
from actionbus.core.history.archiving import (
    ArchiveCut,
    Archiving,
    Removal,
    erasures_made,
    place_at,
    refuse_readers,
    require_owner,
)
from actionbus.core.storage.archives import ARCHIVE_ACTION, Archive, archives
from actionbus.projections.incarnation import Incarnation
from actionbus.replay.archives import transfer
from actionbus.replay.archives.folders import (
    FILE_MODE,
    FOLDER_MODE,
    JOURNAL,
    MANIFEST,
    hold,
    is_in_use,
    remove,
    remove_partial,
    sync,
)
from actionbus.replay.archives.lines import kind_of, lines_of
from actionbus.replay.errors import ReplayError

_FORMAT: Final = 1
_CHUNK: Final = 1 << 20
_SAID: Final = {
    **dict.fromkeys(("after", "upto", "records", "images", "erasures"), int),
    **dict.fromkeys(("journal", "dialect"), str),
    "files": dict,
}
Watch = Callable[[str], Callable[[], None]]
"""Told what is begun; gives back what is called at each step of it."""


class ArchiveCounts(NamedTuple):
    """What was read in an archive's file."""

    records: int
    images: int


class WrittenArchive(NamedTuple):
    """An archive in its folder, whole and verified."""

    manifest: dict[str, Any]
    digest: str
    is_own: bool
    """Whether this process has written it, and nobody else can have taken it."""


def archive(
    bus: Bus, upto: int, folder: Path | None = None, *, actor: str | None = None, operator: bool = False, watch: Watch
) -> Archive:
    """Archive all up to a position, or shortly before it, and remove it here; what was archived.

    One that was cut off is gone on with first. Any number of writers may go on. Raises HistoryError for a position that
    cannot be the last of an archive, ReplayError for a folder that will not do, InvalidArguments where somebody has yet
    to read what would go, PermissionDenied.
    """
    bus.journal.require()
    bus.backend.read(lambda connection: require_owner(bus.backend, connection))
    removal = Removal(bus.journal)
    unfinished = removal.finish(lambda: watch("removing"))
    if unfinished and upto <= unfinished[-1].upto:
        return _found(bus, unfinished[-1].archive)
    place = place_at(bus.journal, upto)
    bus.backend.read(lambda connection: refuse_readers(bus.backend, connection, place.upto))
    folder = (folder or Path(f"archive-{place.after + 1}-{place.upto}")).absolute()
    with ExitStack() as until:
        written = (_as_left if is_in_use(folder) else _written)(bus, place, folder, watch, until)
        work = Archiving(bus.journal, place, written.manifest, written.digest, str(folder))
        told = {"upto": place.upto, "folder": str(folder), "digest": written.digest}
        try:
            outcome = bus.operate(
                work.application(bus.application), ARCHIVE_ACTION, told, actor=actor, operator=operator
            )
        except Exception as error:
            if written.is_own and not isinstance(error, OutcomeUnknown):
                with suppress(Exception):  # whoever cannot even ask leaves it
                    _remove_refused(bus, folder, written.digest)
            raise
    noted = _found(bus, outcome.result["archive"])
    removal.run(noted, watch("removing"))
    return _found(bus, noted.archive)


def _remove_refused(bus: Bus, folder: Path, digest: str) -> None:
    """Else all that happened would lie about in clear, in a folder that no list has and no erasure looks into."""
    if all(each.digest != digest for each in archives(bus.backend)):
        remove(folder)


def _found(bus: Bus, number: int) -> Archive:
    return next(each for each in archives(bus.backend) if each.archive == number)


def _written(bus: Bus, place: ArchiveCut, folder: Path, watch: Watch, until: ExitStack) -> WrittenArchive:
    """Write an archive, whole and verified, and hold it. Raises ReplayError."""
    partial = folder.with_name(f"{folder.name}.partial")
    remove_partial(partial)
    is_own = False
    try:
        partial.mkdir(mode=FOLDER_MODE)
        is_held, is_own = hold(until, partial), True
        manifest = _export(bus, place, partial, watch)
        # Indented, for whoever looks into the folder, hence not `values.payload`.
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (partial / MANIFEST).write_text(text)
        (partial / MANIFEST).chmod(FILE_MODE)  # as `transfer` makes the other one
        for each in (partial / JOURNAL, partial / MANIFEST, partial):
            sync(each)
        verify(partial, watch)
        partial.rename(folder)
        sync(folder.parent)
    except BaseException as error:
        with suppress(OSError):
            if is_own:
                shutil.rmtree(partial)
        if isinstance(error, OSError):
            raise ReplayError(
                f"the archive could not be written to {folder}: {error}; nothing was removed from the database: make "
                "room, or name another folder"
            ) from error
        raise
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest_of(folder / MANIFEST) != digest:  # where folders cannot be locked, somebody else may have been at it
        raise ReplayError(f"{folder} is not what was written there; look who else writes it, and archive anew")
    return WrittenArchive(manifest, digest, is_own=is_held)


def _as_left(bus: Bus, place: ArchiveCut, folder: Path, watch: Watch, until: ExitStack) -> WrittenArchive:
    """One of this very part that was written before what was to come after it was cut off."""
    hold(until, folder)
    with suppress(ReplayError, OSError):
        manifest = read_manifest(folder)
        is_it = (manifest["journal"], manifest["after"], manifest["upto"])
        if is_it == (bus.journal.identity(), place.after, place.upto) and _is_free(bus, folder):
            verify(folder, watch)
            if _are_here(bus, folder, place.upto):
                return WrittenArchive(manifest, digest_of(folder / MANIFEST), is_own=False)
    raise ReplayError(
        f"the folder {folder} is not empty, and holds no archive of {place.after + 1} to {place.upto} that is "
        "yet to be taken; name another"
    )


def _is_free(bus: Bus, folder: Path) -> bool:
    return all(each.folder != str(folder) for each in archives(bus.backend))


def _are_here(bus: Bus, folder: Path, upto: int) -> bool:
    """Whether an archive's records are those of this database up to there.

    Where a standby that lagged took over, or a backup was restored, other records have these positions.
    """
    lines = lines_of(folder / JOURNAL)
    next(lines)
    told = ((each["position"], UUID(each["action_id"])) for each in lines if kind_of(each) == "record")
    here = ((record.position, record.action_id) for record in bus.journal.as_stored(upto=upto))
    return all(one == other for one, other in zip_longest(told, here))


def _export(bus: Bus, place: ArchiveCut, partial: Path, watch: Watch) -> dict[str, Any]:
    begun = bus.journal.begins.archive()
    erased = bus.backend.read(lambda connection: erasures_made(bus.backend, connection))
    path = partial / JOURNAL
    transfer.export(
        bus.journal, path, upto=place.upto, history=bus.history, with_keys=False, progress=watch("archiving")
    )
    counted = _count(path, place.upto, watch)
    return {
        "format": _FORMAT,
        "journal": bus.journal.identity(),
        "dialect": bus.journal.dialect,
        "incarnation": Incarnation(bus.backend, bus.engine).have(),
        "after": place.after,
        "upto": place.upto,
        "records": counted.records,
        "images": counted.images,
        "erasures": erased,
        "rests_on": None if begun is None else {"upto": begun.upto, "digest": begun.digest},
        "files": {JOURNAL: {"bytes": path.stat().st_size, "sha256": digest_of(path)}},
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """What an archive says of itself. Raises ReplayError."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if (given := manifest["format"]) != _FORMAT or isinstance(given, bool):
            why = f"its format is {given!r}, and {_FORMAT} is known here"
        elif lacking := [name for name, kind in _SAID.items() if type(manifest.get(name)) is not kind]:
            why = f"its {MANIFEST} does not say, or not as it has to: {', '.join(lacking)}"
        elif set(manifest["files"]) == {JOURNAL} and isinstance(manifest["files"][JOURNAL]["sha256"], str):
            return dict(manifest)
        else:
            why = f"its {MANIFEST} is to say of {JOURNAL}, and of nothing else, which sha256 it has"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"its {MANIFEST} cannot be read: {type(error).__name__}: {error}"
    raise ReplayError(f"{folder} is no archive: {why}")


def verify(folder: Path, watch: Watch) -> dict[str, Any]:
    """Read an archive back; its manifest. Raises ReplayError, which names the file that is not as it was written."""
    manifest = read_manifest(folder)
    for name, said in manifest["files"].items():
        path = folder / name
        try:
            found = digest_of(path)
        except OSError as error:
            raise ReplayError(f"{path} cannot be read: {error}") from None
        if found != said["sha256"]:
            raise ReplayError(
                f"{path} is not as it was written: its sha256 is {found}, and {MANIFEST} says {said['sha256']}; take a "
                "copy that is whole"
            )
    if (counted := _count(folder / JOURNAL, manifest["upto"], watch)) != (manifest["records"], manifest["images"]):
        raise ReplayError(f"{folder / JOURNAL} holds {counted}, and {MANIFEST} says otherwise")
    return manifest


def _count(path: Path, upto: int, watch: Watch) -> ArchiveCounts:
    """Read all of a file. Raises ReplayError if its records are not in order, or go too far."""
    advance = watch("verifying")
    records = images = last = 0
    lines = lines_of(path)
    next(lines)
    for line in lines:
        kind = kind_of(line)
        images += kind == "image"
        if kind == "record":
            records += 1
            if not last < line["position"] <= upto:
                raise ReplayError(f"{path} has the record {line['position']} after {last}, and is to go up to {upto}")
            last = line["position"]
        advance()
    return ArchiveCounts(records, images)


def digest_of(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
