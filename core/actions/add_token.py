"""add_token: lets whoever holds a token act as somebody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marshmallow import validate

from actionbus import ActionHandler, Arg, Clock, Ids
from actionbus.core.actions import OPERATOR, Tokens

LONGEST: Final = timedelta(days=3650)


def _a_name(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable() and not text.startswith(OPERATOR)


class AddToken(ActionHandler):
    """Add an API token for somebody; only its SHA-256 is given and kept. For operators: no holder prolongs his own."""

    requires = ("tokens", "ids", "clock")
    arguments = {
        "holder": Arg(
            str, required=True, validator=_a_name, description="who acts with it: 1 to 200 printable characters"
        ),
        "digest": Arg(
            str,
            required=True,
            validator=validate.Regexp(r"[0-9a-f]{64}\Z", error="must be a SHA-256 in lower-case hexadecimal"),
            description="SHA-256 of the token, 64 hexadecimal digits",
        ),
        "expires_at": Arg(datetime, required=True, description="from then on it is refused"),
        "label": Arg(str, default="", validator=validate.Length(max=120), description="what it is for"),
    }
    permission = "tokens:issue"
    tokens: Tokens
    ids: Ids
    clock: Clock

    def validate(self) -> None:
        now = self.clock.now()
        if self.args.expires_at <= now:
            self.reject("expires_at", "is over already")
        if self.args.expires_at > now + LONGEST:
            self.reject("expires_at", f"is more than {LONGEST.days} days away")
        if self.tokens.has_digest(self.args.digest):
            self.reject("digest", "is in use already")

    def execute(self) -> dict[str, Any]:
        token_id = self.ids.uuid()
        self.tokens.add_token(
            id=token_id,
            actor=self.args.holder,
            digest=self.args.digest,
            label=self.args.label,
            created_at=self.clock.now(),
            expires_at=self.args.expires_at.astimezone(UTC),
        )
        return {"token_id": token_id}
