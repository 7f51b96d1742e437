"""strike: what a clock does, every minute."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.queued.app import Step


class Strike(ActionHandler):
    """Note the minute."""

    requires = ("session",)
    arguments = {"tick": Arg(datetime)}
    every = "* * * * *"
    queue = "clock"
    session: Session

    def execute(self) -> dict[str, Any]:
        minute = int(self.args.tick.timestamp() // 60) if self.args.tick else 0
        self.session.add(Step(track="clock", number=minute))
        return {"minute": minute}
