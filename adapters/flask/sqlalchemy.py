"""share_session makes a scoped session, such as Flask-SQLAlchemy's `db.session`, the action's session inside actions.

Called once, where the application makes the scoped session; it then holds in whichever way the process runs actions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import ScopedRegistry

from actionbus.core.errors import Misuse
from actionbus.core.gateway.inside import running


def share_session(scoped: scoped_session[Any]) -> None:
    """Let code that knows only `scoped` take part in the action that runs it.

        db = SQLAlchemy(model_class=Base)
        share_session(db.session)

    While a handler runs, `scoped` is the action's session, with or without an application context: from views, the
    command line, workers, replays and tests alike. Its commit, rollback and close are refused, as on any action's
    session. Elsewhere it is what it was. Calling this again changes nothing.
    """
    if not isinstance(scoped.registry, _SharedRegistry):
        scoped.registry = _SharedRegistry(scoped.registry)


class _SharedRegistry(ScopedRegistry[Any]):
    """Asks the running action for its session, and elsewhere the registry that was there before."""

    __slots__ = ("_before",)

    def __init__(self, before: ScopedRegistry[Any]) -> None:
        self._before = before

    def __call__(self) -> Session:
        here = running()
        return self._before() if here is None else here.transaction.session

    def has(self) -> bool:
        """Whether `remove()` is to close a session. The action's refuses to be closed, but is left alone at the end of
        an application context that the handler itself entered."""
        here = running()
        if here is None:
            return bool(self._before.has())
        return bool(self._scope() == here.context.run(self._scope))

    def set(self, obj: Any) -> None:
        """Called where a session is made with options of its own."""
        if running() is not None:
            raise Misuse("inside an action there is no other session than the action's, which takes no options")
        self._before.set(obj)

    def _scope(self) -> Any:
        try:
            return self._before.scopefunc()
        except (AttributeError, RuntimeError):  # scoped by thread; outside of any application context
            return None

    def clear(self) -> None:
        """Forget the session, which is never the action's."""
        if running() is None:
            self._before.clear()
