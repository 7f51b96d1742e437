"""draw: uses every source of chance and time."""

from random import Random
from typing import Any

from actionbus import ActionHandler, Clock, Ids, Secrets


class Draw(ActionHandler):
    """Draw ids and numbers."""

    requires = ("clock", "ids", "random", "secrets", "actor", "context", "logger")
    clock: Clock
    ids: Ids
    random: Random
    secrets: Secrets
    actor: str | None
    context: dict[str, Any]

    def execute(self) -> dict[str, Any]:
        self.logger.info("drawing for %s", self.actor)  # type: ignore[attr-defined]
        token = self.secrets.token_hex()
        return {
            "now": self.clock.now(),
            "again": self.clock.now(),
            "id": self.ids.uuid(),
            "other": self.ids.uuid(),
            "number": self.random.random(),
            "context": self.context,
            "token": token,
        }
