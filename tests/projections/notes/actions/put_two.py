"""put_two: two notes by nested actions."""

from __future__ import annotations

from typing import Any

from actionbus import ActionHandler, Arg


class PutTwo(ActionHandler):
    """Write two notes, or none."""

    requires = ("runner",)
    arguments = {"first": Arg(str, required=True), "second": Arg(str, required=True), "fail": Arg(bool, default=False)}
    runner: Any

    def execute(self) -> dict[str, Any]:
        """Run put_note twice."""
        for note in (self.args.first, self.args.second):
            self.runner.execute("put_note", {"note": note, "text": "nested"})
        if self.args.fail:
            raise ValueError("neither")
        return {"notes": 2}
