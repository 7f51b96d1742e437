"""revoke_token: a token is not accepted any more."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actionbus import ActionHandler, Arg
from actionbus.core.actions import OPERATOR, Tokens


class RevokeToken(ActionHandler):
    """Take back an API token of yours, or as an operator anybody's, from now on."""

    requires = ("tokens", "actor")
    arguments = {"token_id": Arg(UUID, required=True)}
    permission = "tokens:own"
    tokens: Tokens
    actor: str

    def execute(self) -> dict[str, Any]:
        holder = None if self.actor.startswith(OPERATOR) else self.actor
        if not self.tokens.revoke_token(self.args.token_id, holder):
            self.reject("token_id", "there is no such token of yours" if holder else "there is no such token")
        return {"token_id": self.args.token_id}
