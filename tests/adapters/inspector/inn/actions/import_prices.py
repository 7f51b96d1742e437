"""Take prices over from a channel's list."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actionbus import ActionHandler, ActionRunner, Arg


class ImportPrices(ActionHandler):
    """Reprice reservations by a list; `factor` is for channels that pay by the person."""

    version = 1
    requires = ["runner"]
    permission = "reserve"
    arguments = {"prices": Arg(dict, required=True), "factor": Arg(Decimal, default=Decimal(1))}
    runner: ActionRunner

    def execute(self) -> dict[str, Any]:
        """Reprice one after the other."""
        for id, price in self.args.prices.items():
            self.runner.execute("reprice", {"id": id, "price": str(Decimal(price) * self.args.factor)})
        return {"repriced": len(self.args.prices)}
