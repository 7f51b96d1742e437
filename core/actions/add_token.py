"""add_token: lets whoever holds a token act as the caller."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from marshmallow import validate

from core import ActionHandler, Arg
from core.actions import Tokens
from core.determinism import Clock, Ids


class AddToken(ActionHandler):
    """Add an API token for yourself. Only its SHA-256 is given and kept; the token stays with you."""

    requires = ("tokens", "ids", "clock", "actor")
    arguments = {
        "digest": Arg(
            str,
            required=True,
            validator=validate.Regexp(r"[0-9a-f]{64}\Z", error="must be a SHA-256 in lower-case hexadecimal"),
            description="SHA-256 of the token, 64 hexadecimal digits",
        ),
        "expires_at": Arg(datetime, required=True, description="from then on it is refused"),
        "label": Arg(str, default="", validator=validate.Length(max=120), description="what it is for"),
    }
    permission = "tokens:own"
    tokens: Tokens
    ids: Ids
    clock: Clock
    actor: str

    def validate(self) -> None:
        if self.args.expires_at <= self.clock.now():
            self.reject("expires_at", "is over already")
        if self.tokens.has_digest(self.args.digest):
            self.reject("digest", "is in use already")

    def execute(self) -> dict[str, Any]:
        token_id = self.ids.uuid()
        self.tokens.add_token(
            id=token_id,
            actor=self.actor,
            digest=self.args.digest,
            label=self.args.label,
            created_at=self.clock.now(),
            expires_at=self.args.expires_at.astimezone(UTC),
        )
        return {"token_id": token_id}
