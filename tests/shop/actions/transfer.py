"""transfer: a withdrawal and a deposit, as nested actions."""

from typing import Any

from actionbus import ActionHandler, Arg, NestedRunner


class Transfer(ActionHandler):
    """Move money from one account to another."""

    requires = ("runner",)
    arguments = {
        "source": Arg(int, required=True),
        "target": Arg(int, required=True),
        "amount": Arg(int, required=True),
        "go_on": Arg(bool, default=False),
    }
    runner: NestedRunner

    def execute(self) -> dict[str, Any]:
        try:
            self.runner.execute("withdraw", {"id": self.args.source, "amount": self.args.amount})
        except ArithmeticError:
            if not self.args.go_on:
                raise
            return {"moved": 0}
        outcome = self.runner.execute("deposit", {"id": self.args.target, "amount": self.args.amount})
        return {"moved": self.args.amount, "balance": outcome.result["balance"]}
