"""Steps that are taken: a table of them, and the application."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actionbus import Application, Queue
from actionbus.core.history.created import LEFT_TO_CALLER


class Base(DeclarativeBase):
    """Metadata."""


class Step(Base):
    """One step that was taken."""

    __tablename__ = "steps"
    id: Mapped[int] = mapped_column(primary_key=True)
    track: Mapped[str]
    number: Mapped[int]


def make_application(**options: Any) -> Application:
    """The application; options replace parts of it."""
    defaults: dict[str, Any] = {"actions": ["tests.queued.actions"], "models": Base.metadata}
    return Application("queued", **(defaults | options))


def create_tables(engine: Engine) -> None:
    """Make its table, whose rows are not recorded."""
    Base.metadata.create_all(engine.execution_options(**{LEFT_TO_CALLER: True}))


app = make_application(queues=[Queue("narrow", concurrency=2)])
