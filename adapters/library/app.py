"""The reference application: a digital asset library. What it can do is in `core/actions/`, the rest of it here."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Final

from actionbus import Application, outside
from actionbus.adapters.library.checkpoint import checkpoint
from actionbus.adapters.library.models import Base
from actionbus.adapters.library.projections.activity import Activity
from actionbus.adapters.library.projections.assets import Assets
from actionbus.adapters.library.projections.kits import Kits
from actionbus.adapters.library.repo import repo, tokens
from actionbus.adapters.library.storage import FolderStorage
from actionbus.search import es_repo

library: Final = Application(
    "library",
    actions=["actionbus.core.actions"],
    models=Base.metadata,
    dependencies={
        "repo": repo,
        "tokens": tokens,
        "checkpoint": checkpoint,
        "storage": outside(FolderStorage),
        "es_repo": outside(es_repo),
    },
    projections=[Assets, Kits, Activity],
    release=os.environ.get("ACTIONBUS_RELEASE") or f"actionbus {version('actionbus')}",
)
