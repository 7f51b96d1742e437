"""Who may read the journal over HTTP, and how much of it: asked of the application's checkpoint, once for each request.

Three permissions, each adding to the one before: `journal:read` for what was done by whom, with all values masked;
`journal:payloads` for arguments, results and rows; `journal:personal` for values that were declared personal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from actionbus.core import ActionRunner, Bus, PermissionDenied, Record

READ: Final = "journal:read"
"""Asked for records of somebody else's actions, and for all that a record holds of one's own."""
PAYLOADS: Final = "journal:payloads"
PERSONAL: Final = "journal:personal"
_NOBODY_GRANTS: Final = "this application has no checkpoint, so nobody grants {0}; operators read the journal"


@dataclass(frozen=True, slots=True)
class Access:
    """How much a caller sees of what he reads."""

    payloads: bool
    personal: bool


ALL: Final = Access(payloads=True, personal=True)


def access_of(
    runner: ActionRunner, bus: Bus, *, action: str | None = None, actor: str | None = None, table: str | None = None
) -> Access:
    """What the caller may see of the records of one action, one actor, one table's rows; None stands for all of them.

    Raises PermissionDenied if that is nothing. An operator sees everything.
    """
    if runner.is_operator:
        return ALL
    asked = {"action": action, "actor": actor, "table": table}
    if not bus.registry.has_checkpoint:
        raise PermissionDenied(_NOBODY_GRANTS.format(READ))
    runner.require(READ, asked)
    payloads = _may(runner, PAYLOADS, asked)
    return Access(payloads, payloads and _may(runner, PERSONAL, asked))


def _may(runner: ActionRunner, permission: str, asked: dict[str, str | None]) -> bool:
    try:
        runner.require(permission, asked)
    except PermissionDenied:
        return False
    return True


def require_payloads(access: Access, what: str) -> None:
    """Of what would tell values by whether something is found. Raises PermissionDenied."""
    if not access.payloads:
        raise PermissionDenied(f"{what} takes the permission {PAYLOADS}")


class VisibleActions:
    """Whether a caller may see actions at all, each kind of them asked once for one request."""

    def __init__(self, runner: ActionRunner, bus: Bus) -> None:
        self._runner, self._bus = runner, bus
        self._known: dict[tuple[str | None, str | None], bool] = {}

    def may(self, record: Record) -> bool:
        """Whether this one. Whoever may see all of them is asked for none in particular."""
        return self._may(None, None) or self._may(record.action, record.actor)

    def _may(self, action: str | None, actor: str | None) -> bool:
        if (action, actor) not in self._known:
            try:
                access_of(self._runner, self._bus, action=action, actor=actor)
                self._known[action, actor] = True
            except PermissionDenied:
                self._known[action, actor] = False
        return self._known[action, actor]
