"""stay: runs until it is cancelled, or for as long as its timeout lets it."""

import time
from pathlib import Path
from typing import Any

from actionbus import ActionCancelled, ActionHandler, Arg


class Stay(ActionHandler):
    """Make FILE, and stay."""

    arguments = {"file": Arg(str, required=True)}
    queue = "stay"
    timeout = 60.0

    def execute(self) -> dict[str, Any]:
        Path(self.args.file).touch()
        while not self.cancelled:
            time.sleep(0.01)
        raise ActionCancelled("as was wished")
