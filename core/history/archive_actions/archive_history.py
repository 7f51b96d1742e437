"""archive_history: history up to a position, once archived, is taken out here; run by `replay.archives.archive`."""

from __future__ import annotations

from typing import Any, Protocol

from actionbus import Arg
from actionbus.core.history.archive_decision import ArchiveDecision


class Archives(Protocol):
    """The work; see `history.archiving`."""

    def archive(self, session: Any) -> dict[str, Any]:
        """Decide, in the session's transaction; what was decided."""


class ArchiveHistory(ArchiveDecision):
    """Decide that what an archive holds, which was verified, is removed here; the state of tables at its end stays."""

    arguments = {
        "upto": Arg(type=int, required=True, description="the last position that the archive holds"),
        "folder": Arg(type=str, required=True, description="where the archive lies"),
        "digest": Arg(type=str, required=True, description="sha256 of its manifest, which has those of its files"),
    }
    archiving: Archives

    def execute(self) -> dict[str, Any]:
        """What is removed after that is what this record says."""
        return self.archiving.archive(self.session)
