"""Erase the personal data of one subject from row images, and the keys of his arguments; run by `Bus.erase`."""

from __future__ import annotations

from typing import Any, Protocol

from actionbus import ActionHandler, Arg


class Erasing(Protocol):
    """The work, for a subject whom no record names."""

    def run(self, session: Any) -> dict[str, Any]:
        """Erase, in the session's transaction; what was done."""


class EraseSubject(ActionHandler):
    """Erase one subject, and say how much there was of him, and not who he was."""

    version = 1
    permission = "history:erase"
    for_operators = True
    isolation = "READ COMMITTED"
    requires = ("erasing", "session")
    arguments = {
        "subject": Arg(type=str, required=True, description="sha256 over the receipt's bytes and the subject"),
    }
    erasing: Erasing
    session: Any

    def execute(self) -> dict[str, Any]:
        """What is erased already stays as it is, so that it may be done again."""
        return self.erasing.run(self.session)
