"""Ways to a second connection, and how a handler that goes one of them is refused."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text

INSERT = text("INSERT INTO accounts (id, name, balance) VALUES (7, 'seven', 0)")


def transaction_of(bind: Any, handler: Any) -> None:
    with bind.begin() as connection:
        connection.execute(INSERT)


def reading_one(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT 1")).scalar_one())
