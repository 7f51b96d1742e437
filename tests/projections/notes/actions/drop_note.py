"""drop_note: a note is gone."""

from __future__ import annotations

from actionbus import ActionHandler, Arg


class DropNote(ActionHandler):
    """Drop a note."""

    arguments = {"note": Arg(str, required=True)}

    def execute(self) -> dict[str, str]:
        """Nothing but the record."""
        return {"note": self.args.note}
