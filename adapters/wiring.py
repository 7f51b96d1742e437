"""The composition root: the bundled application, and how the command line finds an application and a database."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from adapters.library.checkpoint import checkpoint
from adapters.library.models import Base
from adapters.library.repo import repo
from adapters.library.storage import FolderStorage
from core import Application, outside

DEFAULT_APPLICATION: Final = "adapters.wiring:library"
DEFAULT_DATABASE: Final = "sqlite:///var/library.db"

library: Final = Application(
    "library",
    actions=["core.actions"],
    models=Base.metadata,
    dependencies={"repo": repo, "checkpoint": checkpoint, "storage": outside(FolderStorage)},
    release=os.environ.get("ACTIONBUS_RELEASE") or f"actionbus {version('actionbus')}",
)
"""The reference application: a digital asset library."""


def load_application(path: str) -> Application:
    """The application at `module:attribute`. Raises ValueError saying what is wrong with the path."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"{path!r} is not of the form module:attribute, such as shop.app:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"{path!r}: there is no module {error.name!r} (searched from {here})") from None
    except AttributeError:
        raise ValueError(f"{path!r}: the module has no {attribute!r}") from None
    if not isinstance(found, Application):
        raise ValueError(f"{path!r} is a {type(found).__name__}, not an Application")
    return found
