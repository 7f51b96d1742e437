"""The shelf: things with names that no two share. An application that is small enough to break at every line."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actionbus import Application, Bus, PermissionDenied, outside
from actionbus.core.values.record import Record


class Base(DeclarativeBase):
    """The shelf's metadata."""


class Thing(Base):
    """A thing."""

    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    n: Mapped[int] = mapped_column(default=0)


class Checkpoint:
    """Everybody may do everything, but nobody may put thing 13."""

    def require(self, permission: str, arguments: Any) -> None:
        """Raise PermissionDenied for thing 13."""
        if arguments.id == 13:
            raise PermissionDenied("nobody puts thing 13")


class Post:
    """The world outside, which remembers every letter."""

    sent: list[str] = []

    def send(self, to: str) -> int:
        """Send a letter; how many that makes."""
        self.sent.append(to)
        return len(self.sent)


def checkpoint(actor: str | None) -> Checkpoint:
    """Provider of `checkpoint`."""
    return Checkpoint()


def make_shelf(**options: Any) -> Application:
    """The shelf's declaration; options replace parts of it."""
    defaults: dict[str, Any] = {
        "actions": ["tests.core.gateway.chunks.actions"],
        "models": Base.metadata,
        "dependencies": {"checkpoint": checkpoint, "post": outside(Post)},
    }
    return Application("shelf", **(defaults | options))


def put(number: int, then: str = "nothing", **more: Any) -> tuple[str, dict[str, Any]]:
    return "put", {"id": number, "then": then, **more}


def outcomes(bus: Bus) -> list[Record]:
    return [record for record in bus.journal.read(kind="outcome") if record.cause_id is None]


def transactions(bus: Bus) -> int:
    """How many wrote the outcomes (PostgreSQL)."""
    return len({record.xid for record in outcomes(bus)})


def raising(handler: Any) -> None:
    raise ValueError("no")
