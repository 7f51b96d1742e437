"""admit: takes personal arguments, and lets a test say what comes of it."""

from collections.abc import Callable
from datetime import date
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, NestedRunner


class Admit(ActionHandler):
    """Give back what `function` makes of the handler."""

    requires = ("runner", "session")
    arguments = {
        "patient_id": Arg(int),
        "name": Arg(str, required=True, personal="patient_id"),
        "born": Arg(date, personal="patient_id"),
        "details": Arg(dict, personal="patient_id"),
        "phone": Arg(int, personal="patient_id"),
        "remark": Arg(str),
    }
    function: ClassVar[Callable[[Any], Any]] = lambda handler: None
    runner: NestedRunner
    session: Session

    def execute(self) -> Any:
        return type(self).function(self)
