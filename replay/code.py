"""A fingerprint of the code that a replay runs: a timeline made with other code is not used again."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from pathlib import Path

from core import Application


def fingerprint(application: Application) -> str:
    """A digest of the sources of all loaded modules that are neither Python's nor installed packages'."""
    foreign = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib"))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{application.name} {application.release}".encode())
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for file in sorted(each for each in files if each and each.endswith(".py")):
        path = Path(file).resolve()
        if not str(path).startswith(foreign) and path.is_file():
            digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
