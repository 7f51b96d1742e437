"""stand_fast: hears no SIGTERM, and ends only when it is let go."""

import signal
import time
from pathlib import Path

from actionbus import ActionHandler, Arg


class StandFast(ActionHandler):
    """Make FILE, and stay until FILE.go is there."""

    arguments = {"file": Arg(str, required=True)}
    queue = "stay"

    def execute(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(self.args.file).touch()
        while not Path(f"{self.args.file}.go").exists():
            time.sleep(0.01)
