"""The inn's table."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The inn's metadata."""


class Reservation(Base):
    """What a guest has reserved."""

    __tablename__ = "reservations"
    id: Mapped[str] = mapped_column(primary_key=True)
    guest: Mapped[str]
    room: Mapped[str]
    nights: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    note: Mapped[str | None] = mapped_column(info={"personal": "id"})
