"""An application as hard as those of others: what SQLAlchemy offers, in the idioms of its own documentation.

Nothing in it was written with a replay in mind. Used by `test_campaign.py` and `test_planted.py`.
"""

from __future__ import annotations

from typing import Any

from actionbus import Application, outside
from tests.replay.trade.models import Base


class Post:
    """Sends letters, and refuses some."""

    def send(self, to: str, *, text: str) -> str:
        """A receipt."""
        if to == "nobody":
            raise ConnectionError("no such address")
        return f"sent to {to}: {text}"


def post(actor: str | None) -> Post:
    """What the handlers get."""
    return Post()


def make_application(**options: Any) -> Application:
    """The application."""
    return Application(
        "trade",
        actions=["tests.replay.trade.actions"],
        models=Base.metadata,
        dependencies={"post": outside(Post)},
        **options,
    )
