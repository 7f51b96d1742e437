"""sign_in: asks for a password."""

from typing import Any

from marshmallow import validate

from actionbus import ActionHandler, Arg, PermissionDenied


class SignIn(ActionHandler):
    """Sign in."""

    arguments = {"password": Arg(str, required=True, sensitive=True, validator=validate.Length(min=8))}

    def execute(self) -> dict[str, Any]:
        if self.args.password != "correct horse":
            raise PermissionDenied("wrong password")
        return {"welcome": True}
