"""A fingerprint of the code that a replay runs: a timeline made with other code is not used again."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from actionbus.core import Bus


def fingerprint(bus: Bus) -> str:
    """A digest of all sources below the packages that hold the application's actions, dependencies and models."""
    application = bus.application
    modules = {action.handler.__module__ for action in bus.registry}
    modules |= {getattr(provider.factory, "__module__", "") for provider in bus.registry.providers.values()}
    digest = hashlib.blake2b(f"{application.name} {application.release}".encode(), digest_size=16)
    for name in sorted({module.partition(".")[0] for module in modules}):
        for path in sorted(_sources(name)):
            digest.update(str(path).encode() + b"\0" + path.read_bytes())
    if application.models is not None:
        for table in application.models.sorted_tables:
            digest.update(repr(table).encode())
    return digest.hexdigest()


def _sources(package: str) -> list[Path]:
    module = sys.modules.get(package)
    folders = [Path(each) for each in getattr(module, "__path__", ())]
    if not folders:
        file = getattr(module, "__file__", None)
        return [Path(file)] if file else []
    return [path for folder in folders for path in folder.rglob("*.py")]
