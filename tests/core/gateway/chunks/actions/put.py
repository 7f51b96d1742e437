"""put: puts a thing on the shelf, then does what a test wants done."""

from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, NestedRunner
from tests.core.gateway.chunks.shelf import Thing


class Put(ActionHandler):
    """Put a thing; `then` names a function of the test's."""

    requires = ("session", "runner")
    arguments = {
        "id": Arg(int, required=True),
        "name": Arg(str, default=""),
        "pin": Arg(str, sensitive=True),
        "then": Arg(str, default="nothing"),
    }
    permission = "put"
    functions: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    session: Session
    runner: NestedRunner

    def validate(self) -> None:
        if self.args.id < 0:
            self.reject("id", "must not be negative")

    def execute(self) -> Any:
        self.session.add(Thing(id=self.args.id, name=self.args.name or str(self.args.id)))
        self.session.flush()
        function = self.functions.get(self.args.then)
        told = function(self) if function else None
        return {"id": self.args.id, "things": self.session.scalar(text("SELECT count(*) FROM things")), "told": told}
