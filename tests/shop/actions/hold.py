"""hold: runs until the test says that it may end, on a queue of its own."""

from pathlib import Path
from typing import Any

from actionbus import ActionHandler, Arg
from tests.waiting import eventually


class Hold(ActionHandler):
    """Make the file FILE.begun, and end once there is FILE."""

    arguments = {"file": Arg(str, required=True)}
    queue = "slow"

    def execute(self) -> dict[str, Any]:
        file = Path(self.args.file)
        file.with_suffix(".begun").touch()
        eventually(file.exists, f"the test makes {file}")
        return {"held": True}
