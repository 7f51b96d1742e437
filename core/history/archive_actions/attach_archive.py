"""attach_archive: what an archive holds comes back into the live tables; run by `replay.archives.attach`."""

from __future__ import annotations

from typing import Any, Protocol

from actionbus import Arg
from actionbus.core.history.archive_decision import ArchiveDecision


class Attaches(Protocol):
    """The work; see `replay.archives.attach`."""

    def attach(self, session: Any) -> dict[str, Any]:
        """Bring it back, in the session's transaction; what was brought."""


class AttachArchive(ArchiveDecision):
    """Bring back what the last archive took, as it was, all of it or nothing."""

    arguments = {
        "archive": Arg(type=int, required=True, description="its number, as `actionbus history archives` lists it"),
        "digest": Arg(type=str, required=True, description="sha256 of its manifest"),
    }
    archiving: Attaches

    def execute(self) -> dict[str, Any]:
        """From here on history begins where it did before."""
        return self.archiving.attach(self.session)
