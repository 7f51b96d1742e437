"""What a replay raises: inside a re-run handler, or to whoever asked for the replay."""

from __future__ import annotations

from actionbus.core.errors import ActionBusError
from actionbus.core.values.public import public


@public
class ReplayError(ActionBusError):
    """A replay cannot do what it was asked; the message says what to do instead."""


@public
class NotRecorded(ReplayError):
    """A re-run handler asked the outside world for something that the journal has no answer to."""


@public
class CannotPlayBack(ReplayError):
    """The journal has the call, but not an answer that could be given again (`opaque`)."""


@public
class LeavesSandbox(ReplayError):
    """A re-run handler or dependency tried to reach out of the sandbox."""


@public
class NeedsUpcast(ReplayError):
    """History holds arguments of an older handler version, and the handler has no `upcast`."""
