"""Runs what is for operators."""

from __future__ import annotations

from typing import Any

from actionbus import ActionHandler


class Meddle(ActionHandler):
    """Leave a record out, from inside an action."""

    requires = ("runner",)
    runner: Any

    def execute(self) -> None:
        """Try it."""
        self.runner.execute("skip_record", {"projection": "notes", "of_version": 1, "position": 2})
