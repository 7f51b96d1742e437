"""prune_history: row images that are older than their tables' `keep` go, for good; run by `replay.archives.prune`."""

from __future__ import annotations

from typing import Any, Protocol

from actionbus.core.history.archive_decision import ArchiveDecision


class Prunes(Protocol):
    """The work; see `history.pruning`."""

    def prune(self, session: Any) -> dict[str, Any]:
        """Decide, in the session's transaction; what was decided."""


class PruneHistory(ArchiveDecision):
    """Decide that row images which nobody declared to be kept for so long are removed; rows stay known from then on."""

    archiving: Prunes

    def execute(self) -> dict[str, Any]:
        """What is removed after that is what this record says."""
        return self.archiving.prune(self.session)
