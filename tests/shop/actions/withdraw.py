"""withdraw: takes from a balance; fails in execute() where it would fall below zero."""

from typing import Any

from actionbus import ActionHandler, Arg
from tests.shop.app import Repo


class Withdraw(ActionHandler):
    """Take money out of an account."""

    requires = ("repo",)
    arguments = {"id": Arg(int, required=True), "amount": Arg(int, required=True)}
    repo: Repo

    def execute(self) -> dict[str, Any]:
        account = self.repo.account(self.args.id)
        if account is None:
            raise LookupError(f"no account {self.args.id}")
        self.repo.change(account, -self.args.amount)
        self.repo.session.flush()
        if account.balance < 0:
            raise ArithmeticError("the balance would fall below zero")
        return {"balance": account.balance}
