"""ArchiveDecision, what the actions have in common by which operators archive, attach and prune history. Their base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from actionbus.core.declare.handler import ActionHandler


class ArchiveDecision(ActionHandler):
    """It does its work by what `archiving` is given as, within its own transaction."""

    permission: ClassVar[str | None] = "history:archive"
    for_operators = True
    isolation: ClassVar[str | None] = "READ COMMITTED"
    requires: ClassVar[Sequence[str]] = ("archiving", "session")
    session: Any
