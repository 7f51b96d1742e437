"""Copies of the reference application, with two actions more, in which a test may plant a bug or a refactoring."""

from __future__ import annotations

import importlib
import itertools
import shutil
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import actionbus.core.actions
from actionbus import Application, outside
from actionbus.adapters.library.checkpoint import checkpoint
from actionbus.adapters.library.models import Base
from actionbus.adapters.library.repo import repo, tokens
from actionbus.adapters.library.storage import FolderStorage

_numbers = itertools.count(1)


class Visit(Base):
    """A row whose key the database makes."""

    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    what: Mapped[str] = mapped_column(String(200))


assert issubclass(Base, DeclarativeBase)

PUBLISH_KIT = '''"""publish_kit: writes a kit's manifest and its list, and notes the visit."""

import random
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.replay.copies import Visit


class PublishKit(ActionHandler):
    """Publish a kit."""

    requires = ("repo", "storage", "random", "session", "clock")
    arguments = {"kit_id": Arg(UUID, required=True), "file": Arg(str, required=True), "tags": Arg(list[str], default=list)}
    permission = "kit:own"

    def execute(self) -> dict[str, Any]:
        assets = self.repo.assets(self.args.kit_id)
        cover = self.random.random()
        self.storage.put(f"{self.args.file}.manifest", str(len(assets)))
        where = self.storage.put(self.args.file, ",".join(asset["name"] for asset in assets))
        self.session.add(Visit(what=self.args.file))
        self.session.execute(insert(Visit).values([{"what": "a"}, {"what": "b"}]))
        return {"where": where, "cover": cover, "tags": list(dict.fromkeys(self.args.tags))}
'''

DUPLICATE_KIT = '''"""duplicate_kit: a kit like another, by nested actions."""

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg, InvalidArguments


class DuplicateKit(ActionHandler):
    """Make a kit with the same assets."""

    requires = ("repo", "runner")
    arguments = {"kit_id": Arg(UUID, required=True), "name": Arg(str, required=True)}
    permission = "kit:view"

    def execute(self) -> dict[str, Any]:
        made = self.runner.execute("create_kit", {"name": self.args.name}).result["kit_id"]
        for asset in self.repo.assets(self.args.kit_id):
            self.runner.execute("add_asset", {"kit_id": made, "name": asset["name"], "tags": asset["tags"]})
        try:
            self.runner.execute("create_kit", {"name": self.args.name})
        except InvalidArguments:
            pass
        return {"kit_id": made}
'''


class Copy:
    """A copy's folder and its application."""

    def __init__(self, folder: Path, *, exports: Path) -> None:
        self.name = f"library_copy_{next(_numbers)}"
        self.folder = folder / self.name
        shutil.copytree(
            Path(actionbus.core.actions.__file__).parent, self.folder, ignore=shutil.ignore_patterns("__pycache__")
        )
        (self.folder / "publish_kit.py").write_text(PUBLISH_KIT)
        (self.folder / "duplicate_kit.py").write_text(DUPLICATE_KIT)
        self._exports = exports
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))

    def change(self, action: str, old: str, new: str) -> None:
        """Change an action's source."""
        path = self.folder / f"{action}.py"
        text = path.read_text()
        assert old in text, f"{action} has no {old!r}"
        path.write_text(text.replace(old, new, 1))

    def application(self, **dependencies: Any) -> Application:
        """The application."""
        importlib.invalidate_caches()
        given = {
            "repo": repo,
            "tokens": tokens,
            "checkpoint": checkpoint,
            "storage": outside(self._storage),
            "es_repo": outside(_no_search),
        }
        return Application("library", actions=[self.name], models=Base.metadata, dependencies={**given, **dependencies})

    def _storage(self, actor: str | None) -> FolderStorage:
        return FolderStorage(actor, self._exports)


def _no_search() -> object:
    raise AssertionError("nothing searches here")
