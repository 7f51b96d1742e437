"""A small application that knows only Flask-SQLAlchemy's `db.session`."""

from __future__ import annotations

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from actionbus import Application
from actionbus.flask import share_session


class Base(DeclarativeBase):
    """The models' base."""


db = SQLAlchemy(model_class=Base)
share_session(db.session)
private = SQLAlchemy(model_class=Base)
"""Its session is not shared with actions."""


class Note(db.Model):  # type: ignore[name-defined,misc]
    """A note."""

    __tablename__ = "flask_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


app = Application("notes", actions=["tests.adapters.flask.notes.actions"], models=Base.metadata)
