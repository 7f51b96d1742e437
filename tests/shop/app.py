"""The shop: accounts with balances. Its models, dependencies and declaration."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from actionbus import Application, PermissionDenied, outside


class Base(DeclarativeBase):
    """The shop's metadata."""


class Account(Base):
    """An account; its balance never falls below zero."""

    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    balance: Mapped[int] = mapped_column(default=0)


class Entry(Base):
    """One change of a balance."""

    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int]


class Repo:
    """Reads and writes accounts."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def account(self, account_id: int) -> Account | None:
        """The account, locked."""
        return self.session.get(Account, account_id, with_for_update=True)

    def open(self, account_id: int, name: str) -> Account:
        """A new account."""
        account = Account(id=account_id, name=name, balance=0)
        self.session.add(account)
        self.session.flush()
        return account

    def change(self, account: Account, amount: int) -> None:
        """Change a balance and write an entry."""
        account.balance += amount
        self.session.add(Entry(account_id=account.id, amount=amount))


class Checkpoint:
    """Everybody may do everything, but for the actor called `mallory`."""

    def __init__(self, actor: str | None) -> None:
        self.actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        """Raise PermissionDenied for mallory."""
        if self.actor == "mallory":
            raise PermissionDenied(f"mallory may not {permission}")


class Mailer:
    """Stands for the outside world: counts what it is asked."""

    sent: list[tuple[str, str]] = []

    def send(self, to: str, text: str) -> str:
        """Send a mail; its receipt."""
        if to == "nobody":
            raise ConnectionError("no such mailbox: nobody")
        self.sent.append((to, text))
        return f"receipt {len(self.sent)}"


def repo(session: Session) -> Repo:
    """Provider of `repo`."""
    return Repo(session)


def checkpoint(actor: str | None) -> Checkpoint:
    """Provider of `checkpoint`."""
    return Checkpoint(actor)


def make_application(**options: Any) -> Application:
    """The shop's declaration; options replace parts of it."""
    defaults: dict[str, Any] = {
        "actions": ["tests.shop.actions"],
        "models": Base.metadata,
        "dependencies": {"repo": repo, "checkpoint": checkpoint, "mailer": outside(Mailer)},
        "release": "shop 1",
    }
    return Application("shop", **(defaults | options))
