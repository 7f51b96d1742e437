"""Runs the steps of the demonstration's real input through the gateway, in chunks. Used by `adapters.cli.demo`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from actionbus.adapters.cli.progress import progress
from actionbus.adapters.library.emoji_input import CURATOR, ImportStep
from actionbus.core import Bus, JournalFilter, Outcome

_KITS: Final = JournalFilter(action="create_kit", actor=CURATOR, status="succeeded")


class Import:
    """Runs steps; remembers the kits' ids, how many ended how, and what was denied."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kits = {record.arguments["name"]: record.result["kit_id"] for record in bus.journal.read(where=_KITS)}
        self.counts: dict[str, int] = {}
        self.denied: list[ImportStep] = []

    def run(self, title: str, planned: Sequence[ImportStep]) -> None:
        """Run every step, with progress; those of one actor that follow each other many to a transaction."""
        with progress(title, len(planned)) as advance:
            for actor, following in groupby(planned, key=lambda step: step.actor):
                own = list(following)
                runner = self._bus.runner(actor, context={"source": "emoji"})
                for step, outcome in zip(own, runner.execute_each(self._asked(own)), strict=True):
                    self._note(step, outcome)
                    advance()

    def _asked(self, steps: Sequence[ImportStep]) -> Iterator[tuple[str, dict[str, Any]] | None]:
        for step in steps:
            if step.kit and step.kit not in self._kits:
                yield None  # its kit is made by an action before it, whose outcome is needed first
            yield step.action, step.arguments | ({"kit_id": self._kits.get(step.kit)} if step.kit else {})

    def _note(self, step: ImportStep, outcome: Outcome) -> None:
        self.counts[outcome.status] = self.counts.get(outcome.status, 0) + 1
        if outcome.status == "denied" and step.action == "add_asset":
            self.denied.append(step)
        if outcome.status == "succeeded" and step.action == "create_kit":
            self._kits[step.arguments["name"]] = outcome.result["kit_id"]
