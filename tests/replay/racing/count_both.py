"""count_both: counts the first two up by ten."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler


class CountBoth(ActionHandler):
    """Count both up."""

    requires = ("session",)
    session: Session

    def execute(self) -> dict[str, Any]:
        from tests.replay.test_concurrency import Tally

        for number in (1, 2):
            self.session.get_one(Tally, number).value += 10
        return {}
