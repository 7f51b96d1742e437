"""Api answers requests for one bus: actions, their records, searches. A framework's adapter routes requests to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.http.answer import Answer, shown
from actionbus.adapters.http.cursors import Seals
from actionbus.adapters.http.history_api import HistoryApi
from actionbus.adapters.http.job_api import JobApi
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.http.journal_access import Access, access_of
from actionbus.adapters.http.journal_api import JournalApi
from actionbus.adapters.http.masks import Masks
from actionbus.adapters.http.origin import Gate
from actionbus.adapters.http.reading import (
    MOST_AWAITED,
    due_time_of,
    json_of,
    longest_body,
    repeated_values,
    seconds_to_wait,
    wants_queue,
)
from actionbus.adapters.http.refusals import Malformed, NotFound
from actionbus.adapters.http.request import Request
from actionbus.adapters.http.searching import asked_of, page_of
from actionbus.adapters.http.views import action_of, hits_of
from actionbus.adapters.http.waiting import Waits
from actionbus.adapters.json_views import described, described_outcome, described_ticket
from actionbus.adapters.wiring import store_for
from actionbus.core import ActionRunner, Bus, Outcome, PermissionDenied, Record
from actionbus.core.gateway.ticket import Ticket, given
from actionbus.projections import Projections
from actionbus.projections.errors import ProjectionError, QueryRefused, UnknownProjection
from actionbus.projections.search import Hits

SEARCH: Final = "search:"
"""With a projection's name, asked of the checkpoint for every search."""
ACTION_NAME: Final = r"(?![0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z)[^/]+"
"""Whatever a client sends as an action's name, but for the id of one."""


class Api:
    """Every method raises what `problems.explain` tells. `elasticsearch` is where documents are, as for `store_for`;
    `gate` says where requests may come from, `waits` how many may wait, `jobs` where jobs are kept, if they are.
    """

    def __init__(
        self,
        bus: Bus,
        elasticsearch: str | None = None,
        *,
        gate: Gate | None = None,
        waits: Waits | None = None,
        jobs: Callable[[], Jobs | None] = lambda: None,
    ) -> None:
        self.bus = bus
        self.journal = JournalApi(bus)
        self.history = HistoryApi(bus)
        self.jobs = JobApi(bus, jobs)
        self.gate = gate or Gate(asks=False)
        self.waits = waits or Waits()
        self.streams = Waits(self.waits.most // 2) if self.waits.most > 1 else self.waits
        """Apart, since who follows the journal stays, and is not to keep others from waiting for what they wrote."""
        self._elasticsearch = elasticsearch
        self._projections: Projections | None = None
        self._seals = Seals(bus)

    def projections(self) -> Projections:
        """Where read models are looked at; connected when first asked for."""
        if self._projections is None:
            bus = self.bus
            self._projections = Projections(
                bus, store_for(bus.engine, schema=bus.backend.schema, where=self._elasticsearch)
            )
        return self._projections

    def longest_body(self) -> int:
        """How many bytes of a request's body are to be read at most."""
        return longest_body(self.bus.application.limits)

    def catalogue(self) -> Answer:
        """All actions."""
        return shown({"actions": [described(action) for action in self.bus.registry.everyday()]})

    def run(self, runner: ActionRunner, request: Request, name: str, body: bytes) -> Answer:
        """Run an action, or queue it."""
        self.gate.check_type(request)
        arguments = json_of(request, body)
        key = request.headers.get("idempotency-key")
        due, wanted, patience = due_time_of(request), self._awaited(request), seconds_to_wait(request, "timeout", 10.0)
        if due is not None or wants_queue(request):
            return self._queue(runner, request, name, arguments, key, due)
        with self.waits.one() if wanted else nullcontext():
            outcome: Outcome = runner.execute(name, arguments, idempotency_key=key)
            told = described_outcome(outcome)
            if wanted:
                told["projected"] = self._projected(wanted, outcome, time.monotonic() + patience)
        return shown(told)

    def _awaited(self, request: Request) -> list[str]:
        """The projections of `wait_for`. A queued action has nothing to wait for, but its query is checked as well."""
        wanted = repeated_values(request, "wait_for", MOST_AWAITED)
        if unknown := sorted(set(wanted) - set(self.projections().names())) if wanted else []:
            raise Malformed(f"there is no projection {unknown[0][:100]!r} to wait for", {"wait_for": ["is unknown"]})
        return wanted

    def _projected(self, wanted: Sequence[str], outcome: Outcome, deadline: float) -> dict[str, bool]:
        """Whether searches see the outcome by then. The action has succeeded, whatever becomes of its documents."""
        told = {}
        for name in wanted:
            try:
                patience = max(0.0, deadline - time.monotonic())
                self.projections().wait_for(name, outcome, patience, refresh=True)
                told[name] = True
            except ProjectionError:
                told[name] = False
        return told

    def _queue(
        self, runner: ActionRunner, request: Request, name: str, arguments: Any, key: str | None, due: datetime | None
    ) -> Answer:
        ticket = runner.execute_async(name, arguments, idempotency_key=key, eta=due)
        if ticket.repeated and (outcome := self.bus.journal.outcome(ticket.action_id)) is not None:
            return shown(described_outcome(given(outcome, repeated=True)))
        where = f"{request.root}/actions/{ticket.action_id}"
        return shown(_described(ticket), 202, Location=where, Preference_Applied="respond-async")

    def action(self, runner: ActionRunner, action_id: UUID) -> Answer:
        """What was submitted and what came of it, for whom it is meant."""
        submitted = self.bus.journal.submitted(action_id, opened=False)
        access = submitted and self._access(runner, submitted)
        is_own = submitted is not None and submitted.actor == runner.actor
        if submitted is None or not (access or is_own):
            raise NotFound(f"there is no action {action_id} that you may see")
        whole = access if access and (access.payloads or not is_own) else None
        records = self.bus.journal.of_action(action_id, opened=whole is None or whole.personal)
        run = None if len(records) > 1 else self.bus.runs.get(action_id)
        return shown(action_of(records, run, Masks(self.bus, whole) if whole else None))

    def _access(self, runner: ActionRunner, record: Record) -> Access | None:
        """What the caller may see of any such record, which a checkpoint must say."""
        try:
            return access_of(runner, self.bus, action=record.action, actor=record.actor)
        except PermissionDenied:
            return None

    def search(self, runner: ActionRunner, request: Request, projection: str) -> Answer:
        """A page of documents."""
        asked = asked_of(request)
        cursors = self._seals.of(runner.actor, projection)
        page = page_of(request, cursors)
        if projection not in self.projections().names():
            raise NotFound(f"there is no projection {projection[:100]!r}")
        runner.require(SEARCH + projection, asked)
        found = self._found(projection, asked | page)
        return shown(hits_of(found, found.next and cursors.sealed(found.next)))

    def _found(self, projection: str, asked: dict[str, Any]) -> Hits:
        try:
            repo = EsRepo(self.projections().store, self.bus.application.projections)
            return repo.search(projection, **asked)
        except UnknownProjection as error:
            raise NotFound(str(error)) from None
        except QueryRefused as error:
            raise Malformed(str(error)[:500]) from None


def _described(ticket: Ticket) -> dict[str, Any]:
    told = described_ticket(ticket)
    return told | ({"problem": "the broker does not have it yet; it is sent again"} if "problem" in told else {})
