"""add_note: a note, and what its author thinks of transactions."""

from collections.abc import Callable
from typing import Any

from flask import has_app_context
from sqlalchemy import func, select

from actionbus import ActionHandler, Arg
from tests.adapters.flask.notes import Note, db, private

THEN: dict[str, Callable[[], Any]] = {
    "return": lambda: None,
    "commit": lambda: db.session.commit(),
    "rollback": lambda: db.session.rollback(),
    "close": lambda: db.session.close(),
    "remove": lambda: db.session.remove(),
    "configure": lambda: db.session(expire_on_commit=False),
    "engine": lambda: db.engine.connect(),
    "unshared": lambda: private.session.add(Note(text="not of the action")),
}


class AddNote(ActionHandler):
    """Add a note, with no dependency at all."""

    arguments = {"text": Arg(str, required=True), "then": Arg(str, options=[*THEN, "raise"], default="return")}

    def execute(self) -> dict[str, Any]:
        note = Note(text=self.args.text)
        db.session.add(note)
        db.session.flush()
        if self.args.then == "raise":
            raise RuntimeError("no")
        THEN[self.args.then]()
        return {
            "id": note.id,
            "seen": db.session.scalar(select(func.count()).select_from(Note)),
            "in a context": has_app_context(),
        }
