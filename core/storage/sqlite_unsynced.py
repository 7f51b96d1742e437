"""Commits that do not wait for the disk, on a connection whose others do. Used by `storage.sqlite`."""

from __future__ import annotations

from typing import Any, Final

from actionbus.core.storage.sqlite_guard import Guard

_FULL: Final = "FULL"


class WithoutSync:
    """A block whose commits do not wait, unless they must be durable: the outcome's fsync of the same log covers them.

    Nothing is changed where the application has set that no commit waits. SQLite prepares a PRAGMA anew each time that
    it is run, and so is not asked for that if the guard was told of nothing else since we set it ourselves.
    """

    __slots__ = ("_dbapi", "_durable", "_guard")

    def __init__(self, dbapi: Any, guard: Guard, *, durable: bool) -> None:
        self._dbapi = dbapi
        self._guard = guard
        self._durable = durable

    def __enter__(self) -> None:
        if not self._durable and (self._guard.synchronous == _FULL or _waits(self._dbapi)):
            self._guard.is_unsynced = True  # first: whoever is interrupted here gives the connection back
            self._dbapi.execute("PRAGMA synchronous=NORMAL")

    def __exit__(self, *_: object) -> None:
        sync_again(self._dbapi, self._guard)


def sync_again(dbapi: Any, guard: Guard) -> None:
    """Have commits wait for the disk as they did before. Outside of any transaction, in which SQLite ignores that."""
    if guard.is_unsynced:
        dbapi.execute(f"PRAGMA synchronous={_FULL}")
        guard.is_unsynced = False


def _waits(dbapi: Any) -> bool:
    cursor = dbapi.cursor()
    cursor.row_factory = None  # the application may have set one
    return bool(cursor.execute("PRAGMA synchronous").fetchone()[0] == 2)
