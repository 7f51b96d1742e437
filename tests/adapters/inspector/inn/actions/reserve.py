"""Reserve a room."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.adapters.inspector.inn.models import Reservation


class Reserve(ActionHandler):
    """Reserve a room for some nights, at the rate of the day."""

    version = 1
    requires = ["session", "rates"]
    permission = "reserve"
    arguments = {
        "id": Arg(str, required=True),
        "guest": Arg(str, required=True),
        "room": Arg(str, default="single"),
        "nights": Arg(int, default=1),
        "note": Arg(str, personal="id"),
    }
    session: Session
    rates: Any

    def validate(self) -> None:
        """Nobody reserves less than a night."""
        if self.args.nights < 1:
            self.reject("nights", "at least one night")

    def execute(self) -> dict[str, Any]:
        """Take down what was reserved."""
        price = self.rates.of(self.args.room) * self.args.nights
        self.session.add(Reservation(**self.args, price=price))
        return {"id": self.args.id, "price": price}
