"""send: asks the world outside."""

from typing import Any

from actionbus import ActionHandler, Arg


class Send(ActionHandler):
    """Send a letter."""

    requires = ("post",)
    arguments = {"to": Arg(str, required=True)}
    post: Any

    def execute(self) -> Any:
        return self.post.send(self.args.to)
