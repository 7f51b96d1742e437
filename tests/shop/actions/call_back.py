"""call_back: runs a function that a test put in place, inside a transaction."""

from collections.abc import Callable
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, NestedRunner


class CallBack(ActionHandler):
    """Run `function(handler)`."""

    requires = ("session", "runner", "mailer")
    arguments = {"n": Arg(int, default=0)}
    function: ClassVar[Callable[[Any], Any]] = lambda handler: None
    session: Session
    runner: NestedRunner
    mailer: Any

    def execute(self) -> Any:
        return type(self).function(self)
