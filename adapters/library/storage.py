"""The `storage` dependency: a folder outside the database. Declared `outside`, so its calls are recorded."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from uuid import uuid4

from actionbus.core.actions import FILE_NAME

_PLAIN = re.compile(r"[^A-Za-z0-9]+")


class FolderStorage:
    """Files of one actor, in a folder of his in the one that ACTIONBUS_EXPORTS names, which must exist; by default
    `var/exports`.
    """

    def __init__(self, actor: str | None, folder: Path | None = None) -> None:
        self._folder = (folder or Path(os.environ.get("ACTIONBUS_EXPORTS", "var/exports"))) / _folder_of(actor or "")

    def put(self, name: str, text: str) -> str:
        """Write a file, or replace one of the same actor's; its path. Nobody ever sees half of it.

        Raises ValueError for a name that is not a plain file name, OSError from the disk.
        """
        if not re.fullmatch(FILE_NAME, name):
            raise ValueError("a file name has letters, digits, dots, dashes and underscores only")
        self._folder.mkdir(exist_ok=True)
        path, part = self._folder / name, self._folder / f".{uuid4().hex}"  # no file's name begins with a dot
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return str(path)


def _folder_of(actor: str) -> str:
    """A folder's name that no other actor has, whatever is in his."""
    return f"{_PLAIN.sub('_', actor)[:40]}-{hashlib.sha256(actor.encode()).hexdigest()[:16]}"
