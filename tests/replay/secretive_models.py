"""Members who signed up: the table of `tests.replay.secretive`."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Members."""


class Member(Base):
    """Somebody who signed up."""

    __tablename__ = "members"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    hashed: Mapped[str]
    points: Mapped[int]
