"""count_up: reads a value and writes it back, one greater, without a lock."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.replay.racing_models import Tally, gates

STEP = 1


class CountUp(ActionHandler):
    """Count up."""

    requires = ("session",)
    arguments = {"id": Arg(int, required=True), "wait": Arg(bool, default=False)}
    session: Session

    def execute(self) -> dict[str, Any]:
        found = self.session.get(Tally, self.args.id)
        if self.args.wait and "read" in gates:
            gates["read"].wait(10)
        if found is None:
            self.session.add(Tally(id=self.args.id, value=STEP))
            return {"value": STEP}
        found.value = found.value + STEP
        return {"value": found.value}
