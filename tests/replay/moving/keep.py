"""keep: puts an item there, or changes it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from tests.replay.moving import TABLES


class Keep(ActionHandler):
    """Keep it; its price."""

    requires = ("session",)
    arguments = {"name": Arg(str, required=True), "price": Arg(int, required=True)}
    session: Session

    def execute(self) -> Any:
        items = TABLES["items"]
        name, price = items.c[TABLES.get("name", "name")], items.c.price
        if self.session.execute(update(items).where(name == self.args.name).values({price: self.args.price})).rowcount:  # type: ignore[attr-defined]
            return self.session.scalar(select(price).where(name == self.args.name))
        more = TABLES.get("more", {})
        self.session.execute(insert(items).values({name: self.args.name, price: self.args.price, **more}))
        return {"kept": self.args.name}
