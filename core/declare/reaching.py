"""Whether an `outside` dependency is at work here: its connections and sockets are its own business.

`declare.dependencies` and `gateway.outside_calls` enter `reaching_out`; `gateway.inside` and the sandbox's guard ask.
"""

from __future__ import annotations

from contextvars import ContextVar

OUTSIDE: ContextVar[bool] = ContextVar("actionbus_outside", default=False)


class reaching_out:  # noqa: N801 - as above: every outside call enters it
    """While the block runs, connections of its own are an outside dependency's business."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = OUTSIDE.set(True)

    def __exit__(self, *_: object) -> None:
        OUTSIDE.reset(self._token)


def is_reaching_out() -> bool:
    """Whether an outside dependency is being made, called or cleaned up here."""
    return OUTSIDE.get()
