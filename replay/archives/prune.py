"""Carries out how long tables' histories are to be kept: `actionbus history prune`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from actionbus.core import Bus
from actionbus.core.history.archiving import Removal, require_owner
from actionbus.core.history.pruning import Due, Pruning, due
from actionbus.core.storage.archives import PRUNE_ACTION
from actionbus.replay.archives.archive import Watch


def prune(
    bus: Bus,
    *,
    actor: str | None = None,
    operator: bool = False,
    watch: Watch,
    now: datetime | None = None,
    confirm: Callable[[list[Due]], None] = lambda _: None,
) -> dict[str, Any]:
    """Remove row images that are older than declared; by table what was decided. Raises PermissionDenied.

    `confirm` is shown what is due, and may raise. What was cut off is gone on with first.
    """
    bus.journal.require()
    bus.backend.read(lambda connection: require_owner(bus.backend, connection))
    removal = Removal(bus.journal)
    removal.finish(lambda: watch("removing"))
    tables = due(bus.history, now or datetime.now(UTC), watch("looking"))
    if not tables:
        return {}
    confirm(tables)
    work = Pruning(bus.history, tables)
    outcome = bus.operate(work.application(bus.application), PRUNE_ACTION, {}, actor=actor, operator=operator)
    removal.finish(lambda: watch("removing"))
    return dict(outcome.result)
