"""Change the price of a reservation."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.adapters.inspector.inn.models import Reservation


class Reprice(ActionHandler):
    """Set the price of a reservation."""

    version = 1
    requires = ["session"]
    permission = "reserve"
    arguments = {"id": Arg(str, required=True), "price": Arg(Decimal, required=True)}
    session: Session

    def execute(self) -> dict[str, Any]:
        """Set it."""
        self.session.get_one(Reservation, self.args.id).price = self.args.price
        return {"id": self.args.id}
