"""Flask-SQLAlchemy: while an action runs, `db.session` is the action's session. Used by the extension (`db=`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from core import ActionCall, Middleware


class SharedSession(Middleware):
    """Puts the action's session in the place of the scoped one, so that code which knows only `db.session` takes part
    in the action's transaction; its commit is refused as on any action's session.
    """

    def __init__(self, db: Any) -> None:
        self._scoped = db.session

    def around_execution(self, call: ActionCall, session: Session, proceed: Callable[[], None]) -> None:
        """Swap, proceed, and put back what was there."""
        registry = self._scoped.registry
        before = registry() if registry.has() else None
        registry.set(session)
        try:
            proceed()
        finally:
            if before is None:
                registry.clear()
            else:
                registry.set(before)
