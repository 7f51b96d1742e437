"""put_note: a note, new or changed, filed under some shelves."""

from __future__ import annotations

from typing import Any

from actionbus import ActionHandler, Arg


class PutNote(ActionHandler):
    """Write a note."""

    arguments = {
        "note": Arg(str, required=True),
        "text": Arg(str, default=""),
        "number": Arg(int, default=0),
        "shelves": Arg(list[str], default=list),
    }

    def execute(self) -> dict[str, Any]:
        """Nothing but the record."""
        if self.args.text == "fail":
            raise ValueError("as asked")
        return {"note": self.args.note}
