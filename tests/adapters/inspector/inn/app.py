"""The inn's declaration, and who may read its journal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from actionbus import Application, PermissionDenied, outside
from tests.adapters.inspector.inn.models import Base
from tests.adapters.inspector.inn.stays import Stays

READERS = {
    "manager": ("journal:read", "journal:payloads", "journal:personal", "journal:jobs"),
    "steward": ("journal:read", "journal:payloads", "journal:personal", "journal:jobs"),
    "doctor": ("journal:read", "journal:payloads", "journal:personal"),
    "clerk": ("journal:read", "journal:payloads"),
    "auditor": ("journal:read",),
}
"""Who may read how much of the journal; whoever else reads nothing of it."""
_OPERATING = ("actionbus:revert", "runs:operate")
"""Of those who have a name, the manager alone."""


class Checkpoint:
    """Lets everybody act who has a name, but for thieves."""

    def __init__(self, actor: str | None) -> None:
        self._actor = actor

    def require(self, permission: str, arguments: Any) -> None:
        """Refuse those who may not."""
        if permission.startswith("journal:"):
            if permission not in READERS.get(self._actor or "", ()):
                raise PermissionDenied(f"{self._actor} has not {permission}")
        elif self._actor in (None, "thief") or (permission in _OPERATING and self._actor != "manager"):
            raise PermissionDenied(f"{self._actor or 'nobody'} may not do that")


class Rates:
    """The price of a night, as a service outside has it."""

    def of(self, room: str) -> Decimal:
        """In euros."""
        return Decimal(80 + 10 * (len(room) % 5))


inn = Application(
    "inn",
    actions=["tests.adapters.inspector.inn.actions"],
    models=Base.metadata,
    dependencies={"checkpoint": Checkpoint, "rates": outside(Rates)},
    projections=[Stays],
    release="2026.11",
)
