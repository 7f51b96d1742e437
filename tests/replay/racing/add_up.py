"""add_up: reads two values one after the other, without a lock, and keeps their sum."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler
from tests.replay.racing_models import Tally, between


class AddUp(ActionHandler):
    """Put the sum of the first two into the third."""

    requires = ("session",)
    session: Session

    def execute(self) -> dict[str, Any]:
        first = self.session.get_one(Tally, 1).value
        for meanwhile in between:
            meanwhile()
        total = first + self.session.get_one(Tally, 2).value
        self.session.get_one(Tally, 3).value = total
        return {"total": total}
