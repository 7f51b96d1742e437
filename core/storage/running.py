"""Which actions run now on SQLite: in this process by a set, in others by locks on a file. Used by `storage.sqlite`.

A running action holds a POSIX lock on one byte of a file beside the database, at an offset made from its id; the
kernel gives it back when the process dies. SQLite itself is asked which file it has open, so that it does not matter
by which name: a symbolic link, a URI, a relative path. Only a hard link is another file to SQLite as well, with a
write-ahead log of its own, which ends in a corrupt database; that is refused.

There is no lock of Python's around all this, which an interruption could leave locked for ever: each step is atomic.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from actionbus.core.errors import JournalUnavailable
from actionbus.core.values.determinism import lock_key

try:
    import fcntl
except ImportError:  # pragma: no cover - not a POSIX system
    fcntl = None  # type: ignore[assignment]


class _Locks(NamedTuple):
    """The offsets that this process holds in one file; no descriptor for a database in memory."""

    held: dict[int, object]
    """By offset, whose it is: `setdefault` looks and adds in one step."""
    descriptor: int | None


class RunningActions:
    """Which actions run now. `memory` names a database in memory that other buses of this process can open too."""

    _known: ClassVar[dict[Any, _Locks]] = {}
    """By device and inode of the file with the locks: a process never conflicts with its own POSIX locks, so its buses
    share what they hold; and closing any descriptor would drop every lock of the process on that file."""

    def __init__(self, memory: str | None = None) -> None:
        self._memory = memory
        self._own = _Locks({}, None)
        self._locks: _Locks | None = None

    def claim(self, action_id: UUID, dbapi: Any) -> bool:
        """Whether the action ran nowhere; from now on it runs here. `dbapi` is a connection to the database."""
        offset = _offset(action_id)
        if self._locks is None:
            self._locks = self._found(_file_of(dbapi))
        held, descriptor = self._locks
        mine = object()
        if held.setdefault(offset, mine) is not mine:  # first, so that whoever is interrupted here can give it back
            return False
        if descriptor is not None and not _lock(descriptor, offset):
            held.pop(offset, None)
            return False
        return True

    def release(self, action_id: UUID) -> None:
        """The action no longer runs here."""
        offset = _offset(action_id)
        held, descriptor = self._locks or self._own
        if offset in held:
            if descriptor is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
            held.pop(offset, None)  # last: before, no other thread has the lock, which would be given back for it

    def _found(self, database: Path | None) -> _Locks:
        if database is None:
            return self._known.setdefault(self._memory, self._own) if self._memory else self._own
        if fcntl is None:
            raise JournalUnavailable(
                "SQLite files need POSIX file locks, which this system lacks; use sqlite:// or PostgreSQL"
            )
        path = database.with_name(f"{database.name}-running")
        path.touch(0o644)
        there = path.stat()
        known = (there.st_dev, there.st_ino)
        if known not in self._known:  # two threads may both open it, and neither descriptor may ever be closed
            self._known.setdefault(known, _Locks({}, os.open(path, os.O_RDWR | os.O_CLOEXEC)))
        return self._known[known]

    @classmethod
    def forget(cls) -> None:
        """In a forked child, which holds none of its parent's locks."""
        for locks in cls._known.values():
            locks.held.clear()


os.register_at_fork(after_in_child=RunningActions.forget)


def _file_of(dbapi: Any) -> Path | None:
    """The file behind a connection, under its own name; None in memory. Raises JournalUnavailable for hard links."""
    for _, name, file in dbapi.execute("PRAGMA database_list"):
        if name == "main" and file and Path(file).exists():
            if (links := Path(file).stat().st_nlink) > 1:
                raise JournalUnavailable(
                    f"{file} has {links} names (hard links); SQLite keeps a write-ahead log for each, so that what is "
                    "written by one name is lost or corrupt by another: leave one name, or use a symbolic link"
                )
            return Path(os.path.realpath(file))
    return None


def _offset(action_id: UUID) -> int:
    """Where an action's lock is: its key, but for the two bits that would make it negative, or too great."""
    return lock_key(action_id) & 0x3FFFFFFFFFFFFFFF


def _lock(descriptor: int, offset: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except OSError:
        return False
    return True
