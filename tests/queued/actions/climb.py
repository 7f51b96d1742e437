"""climb: fails for good as long as there is no ladder."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.queued.app import Step


class Climb(ActionHandler):
    """Take a step up the ladder."""

    requires = ("session",)
    arguments = {"number": Arg(int, default=0)}
    session: Session

    def execute(self) -> dict[str, Any]:
        if self.session.scalar(select(Step.id).where(Step.track == "ladder").limit(1)) is None:
            raise LookupError("no ladder")
        self.session.add(Step(track="climb", number=self.args.number))
        return {"number": self.args.number}
