"""Change the price of a reservation, to tens."""

from __future__ import annotations

from typing import Any

from tests.adapters.inspector.inn.actions.reprice import Reprice as Before
from tests.adapters.inspector.inn.models import Reservation


class Reprice(Before):
    """Set the price of a reservation."""

    def execute(self) -> dict[str, Any]:
        """Set it, rounded."""
        super().execute()
        self.session.get_one(Reservation, self.args.id).price = round(self.args.price, -2)
        return {"id": self.args.id, "rounded": True}
