"""Tallies that are raced for, and where actions of `tests.replay.racing` wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Counters without locks."""


class Tally(Base):
    """A counter."""

    __tablename__ = "tallies"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    parent: Mapped[int | None] = mapped_column(ForeignKey("tallies.id"))


gates: dict[str, threading.Barrier] = {}
between: list[Callable[[], None]] = []
