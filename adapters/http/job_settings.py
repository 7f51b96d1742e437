"""How a job's command finds the application and the database of a process that serves. Used by `flask.extension`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from actionbus.adapters.http.jobs import Jobs
from actionbus.core import Application, Bus

FOLDER: Final = Path("var/inspector")
"""Where jobs and what they found are kept, unless said otherwise."""


def jobs_of(bus: Bus, folder: Path, *, app_path: str | None = None, elasticsearch: str | None = None) -> Jobs | None:
    """The jobs of a bus; None where no other process can have its application, or its database."""
    where = app_path or path_of(bus.application)
    url = bus.engine.url
    is_file = url.get_backend_name() == "sqlite"
    if where is None or (is_file and (url.database or ":memory:") == ":memory:"):
        return None
    given = {
        "APP": where,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "SCHEMA": None if is_file else bus.backend.schema,
        "ELASTICSEARCH_URL": elasticsearch,
    }
    settings = {f"ACTIONBUS_{name}": value for name, value in given.items() if value}
    found_at = os.pathsep.join(os.path.abspath(each) for each in sys.path)
    return Jobs(folder, settings | {"PYTHONPATH": found_at})


def path_of(application: Application) -> str | None:
    """MODULE:ATTRIBUTE of an application that was imported; None for one that is in no module, or in a script."""
    for name, module in list(sys.modules.items()):
        if name != "__main__":
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if value is application:
                    return f"{name}:{attribute}"
    return None
