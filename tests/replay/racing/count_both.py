"""count_both: counts the first two up by ten."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler
from tests.replay.racing_models import Tally


class CountBoth(ActionHandler):
    """Count both up."""

    requires = ("session",)
    session: Session

    def execute(self) -> dict[str, Any]:
        for number in (1, 2):
            self.session.get_one(Tally, number).value += 10
        return {}
