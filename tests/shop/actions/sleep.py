"""sleep: takes its time, on a queue of its own."""

import time
from typing import Any

from core import ActionHandler, Arg


class Sleep(ActionHandler):
    """Sleep for some seconds."""

    arguments = {"seconds": Arg(float, required=True)}
    queue = "slow"

    def execute(self) -> dict[str, Any]:
        time.sleep(self.args.seconds)
        return {"slept": self.args.seconds}
