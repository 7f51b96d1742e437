"""ActionBusError, the base of every error of ours that somebody outside of a room may meet; see `core.errors`."""

from __future__ import annotations

from uuid import UUID

from actionbus.core.values.public import public


@public
class ActionBusError(Exception):
    """Base of every error raised by actionbus."""

    action_id: UUID | None = None
