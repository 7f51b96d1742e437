"""Decision, what the actions have in common by which operators decide about queued actions and queues. Their base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from actionbus.core.declare.arg import Arg
from actionbus.core.declare.handler import ActionHandler


class Decision(ActionHandler):
    """It does its work by `queueing.operating.Operating`, within its own transaction."""

    permission: ClassVar[str | None] = "runs:operate"
    for_operators = True
    isolation: ClassVar[str | None] = "READ COMMITTED"
    requires: ClassVar[Sequence[str]] = ("operating", "session")
    operating: Any
    session: Any


class QueueDecision(Decision):
    """Whether actions of a queue are begun."""

    arguments = {"name": Arg(type=str, required=True, description="of the queue")}
    paused: ClassVar[bool]

    def validate(self) -> None:
        """Only queues that there are: a name that is spelled wrong would pause nothing."""
        if problem := self.operating.unknown_queue(self.session, self.args.name):
            self.reject("name", problem)

    def execute(self) -> dict[str, Any]:
        """Decide; whether that changed anything."""
        changed = self.operating.pause(self.session, self.args.name, paused=self.paused)
        return {"queue": self.args.name, "changed": changed}
