"""What operators look at and the read API does not tell: projections, runs, the application. Used by `asking`."""

from __future__ import annotations

from typing import Any, Final

from actionbus.adapters.http.api import Api
from actionbus.adapters.http.journal_access import access_of
from actionbus.adapters.http.masks import Masks
from actionbus.adapters.json_views import described_dead_letter, described_run
from actionbus.core import ActionRunner
from actionbus.core.storage.queue_state import Queues

MOST_RUNS: Final = 200


class Looks:
    """For one caller, who may read the journal. Raises PermissionDenied otherwise."""

    def __init__(self, api: Api, runner: ActionRunner) -> None:
        self._masks = Masks(api.bus, access_of(runner, api.bus))
        self._api, self._bus = api, api.bus

    def projections(self) -> list[dict[str, Any]]:
        """Where each projection is."""
        return [
            vars(each) | {"healthy": each.healthy, "detail": self._masks.stop(each.detail)}
            for each in self._api.projections().status()
        ]

    def runs(self) -> dict[str, Any]:
        """Queued actions that have no outcome yet."""
        runs = self._bus.runs.all(MOST_RUNS)
        letters = Queues(self._bus.backend).dead_letters(MOST_RUNS)
        return {
            "runs": [self._masks.run(described_run(each)) for each in runs],
            "counts": self._bus.runs.counts(),
            "letters": [self._masks.run(described_dead_letter(each)) for each in letters],
        }

    def about(self) -> dict[str, Any]:
        """What is looked at."""
        application = self._bus.application
        return {
            "application": application.name,
            "release": application.release,
            "database": self._bus.engine.dialect.name,
            "settled": self._bus.journal.settled(),
            "actions": len(list(self._bus.registry.everyday())),
        }
