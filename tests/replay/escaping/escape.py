"""escape: does what `how` says, while `tests.replay.sandbox.test_sandbox` lets it."""

from typing import Any

from actionbus import ActionHandler, Arg


class Escape(ActionHandler):
    """Try to leave."""

    requires = ("mailer", "lazy", "session")
    arguments = {"how": Arg(str, required=True)}
    mailer: Any
    lazy: Any
    session: Any

    def execute(self) -> dict[str, Any]:
        from tests.replay.sandbox import test_sandbox

        return {"did": test_sandbox.WAYS[self.args.how](self)}
