"""The `storage` dependency: a folder outside the database. Declared `outside`, so its calls are recorded."""

from __future__ import annotations

import os
import re
from pathlib import Path

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


class FolderStorage:
    """Files in the folder that ACTIONBUS_EXPORTS names, `var/exports` by default. The folder must exist."""

    def __init__(self) -> None:
        self._folder = Path(os.environ.get("ACTIONBUS_EXPORTS", "var/exports"))

    def put(self, name: str, text: str) -> str:
        """Write a file; its path. Raises ValueError for a name that is not a plain file name, OSError from the disk."""
        if not _FILE_NAME.fullmatch(name):
            raise ValueError("a file name has letters, digits, dots, dashes and underscores only")
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)
