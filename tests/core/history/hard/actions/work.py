"""work: writes at random, itself and by nested actions; tells what it wrote itself."""

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, NestedRunner
from tests.core.history.hard import Rows, copied, difference
from tests.core.history.hard.operations import LOST, Lost
from tests.core.history.hard.operations import Work as Hands


class Work(ActionHandler):
    """Write, and fail if told so."""

    requires = ("session", "runner")
    arguments = {
        "owner": Arg(int, required=True),
        "seed": Arg(int, required=True),
        "mark": Arg(str, required=True),
        "nested": Arg(int, default=0),
        "fails": Arg(bool, default=False),
    }
    session: Session
    runner: NestedRunner

    def execute(self) -> dict[str, Any]:
        hands = Hands(self.session, self.args.owner, self.args.seed, LOST if self.args.fails else self.args.mark)
        before = copied(self.session, self.args.owner)
        hands.some(2)
        others: Rows = copied(self.session, self.args.owner)
        others.clear()
        for number in range(self.args.nested):
            fails = hands.chance.random() < 0.3
            arguments = {
                "owner": self.args.owner,
                "seed": self.args.seed + number + 1,
                "mark": f"{hands.mark}.{number}",
            }
            at = copied(self.session, self.args.owner)
            try:
                self.runner.execute("work", arguments | {"fails": fails, "nested": self.args.nested - 1})
            except Lost:
                assert fails
            self.session.expire_all()
            others.update(copied(self.session, self.args.owner))
            others.subtract(at)
            hands.some(1)
        if self.args.fails:
            raise Lost
        after = copied(self.session, self.args.owner)
        after.subtract(others)
        return {"wrote": difference(after, before)}
