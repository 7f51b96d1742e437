"""close_account: deletes an account and its entries, by the ORM or by raw SQL."""

from typing import Any

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.shop.app import Account, Entry


class CloseAccount(ActionHandler):
    """Close an account."""

    requires = ("session",)
    arguments = {"id": Arg(int, required=True), "raw": Arg(bool, default=False)}
    session: Session

    def execute(self) -> dict[str, Any]:
        if self.args.raw:
            self.session.execute(text("DELETE FROM entries WHERE account_id = :id"), {"id": self.args.id})
            self.session.execute(text("DELETE FROM accounts WHERE id = :id"), {"id": self.args.id})
        else:
            self.session.execute(delete(Entry).where(Entry.account_id == self.args.id))
            self.session.execute(delete(Account).where(Account.id == self.args.id))
        return {"id": self.args.id}
