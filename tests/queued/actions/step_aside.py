"""step_aside: a step in a queue of two at a time."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.queued.app import Step


class StepAside(ActionHandler):
    """Take one step, on a queue with limits."""

    requires = ("session",)
    arguments = {"track": Arg(str, default="aside"), "number": Arg(int, default=0)}
    queue = "narrow"
    session: Session

    def execute(self) -> dict[str, Any]:
        self.session.add(Step(track=self.args.track, number=self.args.number))
        return {"number": self.args.number}
