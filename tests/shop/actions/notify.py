"""notify: sends a mail, in the outside world."""

from typing import Any

from actionbus import ActionHandler, Arg
from tests.shop.app import Mailer, Repo


class Notify(ActionHandler):
    """Send a mail and charge one for it."""

    requires = ("mailer", "repo")
    arguments = {"to": Arg(str, required=True), "text": Arg(str, default="hello"), "account": Arg(int)}
    mailer: Mailer
    repo: Repo

    def execute(self) -> dict[str, Any]:
        receipt = self.mailer.send(self.args.to, text=self.args.text)
        if self.args.account:
            account = self.repo.account(self.args.account)
            assert account
            self.repo.change(account, -1)
        return {"receipt": receipt}
