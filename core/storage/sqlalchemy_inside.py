"""What is SQLAlchemy's own and used all the same, each with a canary in `tests/core/storage/test_sqlalchemy_inside.py`.

Nothing else under a name that begins with an underscore is asked for on the way of an action.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection


def stands_upon(connection: Connection) -> Any:
    """The pool's connection below one; None below one that was closed or invalidated."""
    below: Any = connection._dbapi_connection
    return below if below is not None and below.is_valid else None


def left_taken(connection: Connection) -> None:
    """Close a connection, but not what it stands upon, which stays taken from its pool.

    The pool's connection counts how often it was handed out, and goes back when each of these has closed it.
    """
    below: Any = connection.connection
    below._counter += 1
    connection.close()
