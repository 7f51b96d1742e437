"""note: has no personal arguments."""

from typing import Any

from actionbus import ActionHandler, Arg


class Note(ActionHandler):
    """Give back what was noted."""

    arguments = {"remark": Arg(dict)}

    def execute(self) -> Any:
        return self.args.remark
