"""add_note: a note, and what its author thinks of transactions."""

from typing import Any

from core import ActionHandler, Arg
from tests.adapters.flask_notes import Note, db


class AddNote(ActionHandler):
    """Add a note, with no dependency at all."""

    arguments = {
        "text": Arg(str, required=True),
        "then": Arg(str, options=["return", "raise", "commit"], default="return"),
    }

    def execute(self) -> dict[str, Any]:
        note = Note(text=self.args.text)
        db.session.add(note)
        db.session.flush()
        if self.args.then == "raise":
            raise RuntimeError("no")
        if self.args.then == "commit":
            db.session.commit()
        return {"id": note.id, "seen": db.session.query(Note).count()}
