"""count_up: reads a row and updates it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from benchmarks.setting import Counter


class CountUp(ActionHandler):
    """Count a counter up."""

    requires = ("session",)
    arguments = {"id": Arg(int, required=True), "by": Arg(int, default=1), "note": Arg(str)}
    session: Session

    def execute(self) -> dict[str, Any]:
        counter = self.session.get_one(Counter, self.args.id)
        counter.n += self.args.by
        return {"n": counter.n}
