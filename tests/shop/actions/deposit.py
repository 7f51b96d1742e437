"""deposit: adds to a balance."""

from typing import Any

from actionbus import ActionHandler, Arg
from tests.shop.app import Repo


class Deposit(ActionHandler):
    """Put money into an account."""

    version = 2
    requires = ("repo",)
    arguments = {"id": Arg(int, required=True), "amount": Arg(int, default=1), "note": Arg(str)}
    permission = "deposit"
    repo: Repo

    def validate(self) -> None:
        if self.repo.account(self.args.id) is None:
            self.reject("id", "no such account")
        if self.args.amount <= 0:
            self.reject("amount", "must be positive")

    def execute(self) -> dict[str, Any]:
        account = self.repo.account(self.args.id)
        assert account
        self.repo.change(account, self.args.amount)
        return {"balance": account.balance}
