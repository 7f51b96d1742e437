"""open_account: a new account with a balance of zero."""

from typing import Any

from actionbus import ActionHandler, Arg
from tests.shop.app import Repo


class OpenAccount(ActionHandler):
    """Open an account."""

    requires = ("repo",)
    arguments = {"id": Arg(int, required=True), "name": Arg(str, required=True)}
    permission = "open"
    repo: Repo

    def validate(self) -> None:
        if self.repo.account(self.args.id):
            self.reject("id", "there is such an account")

    def execute(self) -> dict[str, Any]:
        return {"id": self.repo.open(self.args.id, self.args.name).id}
