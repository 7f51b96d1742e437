"""The folder of an archive: where it may be put, who alone is at it, and how it goes. Used by `archive`."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from actionbus.replay.errors import ReplayError

try:
    import fcntl
except ImportError:  # pragma: no cover -- not on this system
    fcntl = None  # type: ignore[assignment]

JOURNAL: Final = "journal.gz"
MANIFEST: Final = "manifest.json"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
"""What rows held is in there in clear, and those who may read the database are not all who have an account here."""


def is_in_use(folder: Path) -> bool:
    """Whether there is something in a folder already. Raises ReplayError for a place where no folder can be put."""
    if not folder.parent.is_dir():
        raise ReplayError(f"there is no folder {folder.parent} to put an archive into; make it, or name another")
    if folder.is_symlink() or os.path.ismount(folder) or (folder.exists() and not folder.is_dir()):
        raise ReplayError(
            f"{folder} is a file, a symbolic link or a mounted file system, in whose place no folder can be put; "
            "name one that is yet to be made"
        )
    return folder.exists() and any(folder.iterdir())


def hold(until: ExitStack, folder: Path) -> bool:
    """Keep others from a folder until the stack ends, or this process. Raises ReplayError if somebody else is at it.

    The lock is that of the open folder, and goes along when it is renamed. False where folders cannot be locked, as on
    NFS: there nobody is kept from it.
    """
    if fcntl is None:
        return False  # pragma: no cover -- not on this system
    descriptor = os.open(folder, os.O_RDONLY)
    until.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _somebody_else(folder) from None
    except OSError:
        return False
    if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
        raise _somebody_else(folder)  # who has removed it, or renamed it, before this lock was had
    return True


def _somebody_else(folder: Path) -> ReplayError:
    return ReplayError(f"somebody else archives into {folder} at this moment; let that end, or name another folder")


def remove_partial(partial: Path) -> None:
    """What an archive that was cut off has left. Raises ReplayError if it is anything else, or somebody is at it."""
    if not partial.exists():
        return
    if not partial.is_dir() or any(
        each.name not in (JOURNAL, MANIFEST) and each.suffix != ".tmp" for each in partial.iterdir()
    ):
        raise ReplayError(f"{partial} is in the way: it was not left by an archive that was cut off; move it")
    with ExitStack() as until:
        hold(until, partial)
        shutil.rmtree(partial)


def remove(folder: Path) -> None:
    """An archive that this process has written, and holds."""
    for name in (JOURNAL, MANIFEST):
        (folder / name).unlink()
    folder.rmdir()


def sync(path: Path) -> None:
    """Have a file, or what is in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
