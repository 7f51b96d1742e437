"""take_step: one step on a track, in order; fails now and then on its way."""

import random
from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, Retry
from tests.queued.app import Step


class Stumbled(Exception):
    """Try again."""


class TakeStep(ActionHandler):
    """Take one step."""

    requires = ("session",)
    arguments = {"track": Arg(str, required=True), "number": Arg(int, default=0), "stumbles": Arg(float, default=0.0)}
    concurrency_key = "track"
    retry = Retry(on=(Stumbled,), attempts=1000, backoff=[0.0])
    session: Session

    def execute(self) -> dict[str, Any]:
        self.session.add(Step(track=self.args.track, number=self.args.number))
        self.session.flush()
        if random.random() < self.args.stumbles:
            raise Stumbled("on the way")
        return {"number": self.args.number}
