"""sign_up: keeps a hash of a password, and of a token that it draws."""

import hashlib
from typing import Any

from marshmallow import validate
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg, Secrets
from tests.replay.secretive_models import Member


class SignUp(ActionHandler):
    """Sign up."""

    requires = ("session", "secrets")
    arguments = {
        "name": Arg(str, required=True),
        "password": Arg(str, required=True, sensitive=True),
        "pin": Arg(str, sensitive=True, validator=validate.Regexp(r"[0-9]{4}$")),
    }
    session: Session
    secrets: Secrets

    def execute(self) -> dict[str, Any]:
        token = self.secrets.token_hex()
        hashed = hashlib.sha256((token + self.args.password).encode()).hexdigest()
        self.session.add(Member(name=self.args.name, hashed=hashed, points=1))
        return {"name": self.args.name, "token": token, "hash": hashed[:8], "length": len(token)}
