"""act: does what one idiom does."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, Clock, Ids, Secrets
from tests.replay.trade import Post, idioms


class Act(ActionHandler):
    """Do it; what it finds."""

    requires = ("session", "post", "clock", "ids", "random", "secrets", "runner")
    arguments = {
        "idiom": Arg(str, required=True),
        "n": Arg(int, default=1),
        "word": Arg(str, default="word"),
        "amount": Arg(int, default=1),
        "fails": Arg(bool, default=False),
    }
    session: Session
    post: Post
    clock: Clock
    ids: Ids
    random: random.Random
    secrets: Secrets
    runner: Any

    def execute(self) -> Any:
        return idioms.IDIOMS[self.args.idiom](self)
