"""Errors by which rooms of core tell each other which way to take. Callers do not meet them; adapters import none."""

from __future__ import annotations

from actionbus.core.values.base_error import ActionBusError


class AttemptUnfinished(ActionBusError):
    """An attempt at a queued action did not finish and is made again, after `pause` seconds if given.

    A middleware about the call sees it pass; `gateway.failures.came_of` tells it from an end.
    """

    pause: float | None = None


class CommitConflict(ActionBusError):
    """What a backend raises if an outcome for the action is already in the journal. That one is the answer."""


class ForAnotherWorker(ActionBusError):
    """This process's code cannot run a queued action; a worker of another version can. The message says why."""
