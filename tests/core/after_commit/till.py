"""A till that stands for the outside world: it keeps a ledger, and takes a key for what it has taken already."""

from __future__ import annotations

from typing import Any

from actionbus import Application, Retry, outside
from tests.shop.app import checkpoint, make_application, repo


class Till:
    """Takes money, once per key."""

    taken: dict[str, tuple[int, str]] = {}
    asked: list[str] = []
    """The keys in the order in which it was asked."""
    trouble: list[BaseException] = []
    """What it raises, one after the other, before it takes anything."""
    shut = False
    """Whether it raises all the time."""

    def __init__(self) -> None:
        self.currency = "EUR"

    def charge(self, amount: int, *, note: str = "", idempotency_key: str = "") -> dict[str, Any]:
        """Take money, or find that it was taken."""
        self.asked.append(idempotency_key)
        if self.trouble:
            raise self.trouble.pop(0)
        if self.shut:
            raise ConnectionError("shut")
        self.taken.setdefault(idempotency_key, (amount, note))
        return {"taken": amount}

    def take_object(self, *, idempotency_key: str = "") -> Any:
        """Give something that is no JSON."""
        self.charge(1, idempotency_key=idempotency_key)
        return object()

    @classmethod
    def empty(cls) -> None:
        """As it was at first."""
        cls.taken, cls.asked, cls.trouble, cls.shut = {}, [], [], False

    @classmethod
    def amounts(cls) -> list[int]:
        """What was taken, in order."""
        return [amount for amount, _ in cls.taken.values()]


def application(retry: Retry | None = None, **options: Any) -> Application:
    """The shop with the till in the place of its mailer: its handlers have it as `self.mailer`."""
    till = outside(Till, after_commit=True, key="idempotency_key", retry=retry)
    return make_application(dependencies={"repo": repo, "checkpoint": checkpoint, "mailer": till}, **options)
