"""Api answers requests for one bus: actions, their records, searches. A framework's adapter routes requests to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actionbus.adapters.es_repo import EsRepo
from actionbus.adapters.http.answer import Answer, shown
from actionbus.adapters.http.origin import Gate
from actionbus.adapters.http.reading import (
    MOST_AWAITED,
    MOST_FACETS,
    filters,
    json_of,
    longest_body,
    number,
    seconds,
    several,
    wants_queue,
    when,
    words,
)
from actionbus.adapters.http.refusals import Malformed, NotFound, NotOffered
from actionbus.adapters.http.request import Request
from actionbus.adapters.http.views import action_of, hits_of
from actionbus.adapters.http.waiting import Waits
from actionbus.adapters.shown import described, described_outcome, described_ticket
from actionbus.adapters.wiring import store_for
from actionbus.core import ActionRunner, Bus, Outcome, PermissionDenied, Record
from actionbus.core.gateway.ticket import Ticket, given
from actionbus.projections import Projections
from actionbus.projections.errors import ProjectionError, QueryRefused, UnknownProjection
from actionbus.projections.store import Hits

READ_JOURNAL: Final = "journal:read"
"""Asked of the checkpoint for records of somebody else's actions, and for all that a record holds of one's own."""
SEARCH: Final = "search:"
"""With a projection's name, asked of the checkpoint for every search."""
ACTION_NAME: Final = r"(?![0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z)[^/]+"
"""Whatever a client sends as an action's name, but for the id of one."""


class Api:
    """Every method raises what `problems.explain` tells. `elasticsearch` is where documents are, as for `store_for`;
    `gate` says where requests may come from, `waits` how many may wait.
    """

    def __init__(
        self, bus: Bus, elasticsearch: str | None = None, *, gate: Gate | None = None, waits: Waits | None = None
    ) -> None:
        self.bus = bus
        self.gate = gate or Gate(asks=False)
        self.waits = waits or Waits()
        self._elasticsearch = elasticsearch
        self._projections: Projections | None = None

    def projections(self) -> Projections:
        """Where read models are looked at; connected when first asked for."""
        if self._projections is None:
            bus = self.bus
            self._projections = Projections(bus, store_for(bus.engine, bus.backend.schema, self._elasticsearch))
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
        due, wanted, patience = when(request), self._awaited(request), seconds(request, "timeout", 10.0)
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
        wanted = several(request, "wait_for", MOST_AWAITED)
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
        if self.bus.queue is None:
            raise NotOffered("actions are not queued here: no broker is set up; leave out Prefer, eta and countdown")
        ticket = runner.execute_async(name, arguments, idempotency_key=key, eta=due)
        if ticket.repeated and (outcome := self.bus.journal.outcome(ticket.action_id)) is not None:
            return shown(described_outcome(given(outcome, repeated=True)))
        where = f"{request.root}/actions/{ticket.action_id}"
        return shown(_described(ticket), 202, Location=where, Preference_Applied="respond-async")

    def action(self, runner: ActionRunner, action_id: UUID) -> Answer:
        """What was submitted and what came of it, for whom it is meant."""
        submitted = self.bus.journal.submitted(action_id)
        whole = submitted is not None and self._may_read(runner, submitted)
        if submitted is None or not (whole or submitted.actor == runner.actor):
            raise NotFound(f"there is no action {action_id} that you may see")
        outcome = self.bus.journal.outcome(action_id)
        run = None if outcome else self.bus.runs.get(action_id)
        return shown(action_of(submitted, outcome, run, whole=whole))

    def _may_read(self, runner: ActionRunner, record: Record) -> bool:
        """Whether the caller may see all of it, which a checkpoint must say."""
        if not self.bus.registry.has_checkpoint:
            return False
        try:
            runner.require(READ_JOURNAL, {"action": record.action, "actor": record.actor})
        except PermissionDenied:
            return False
        return True

    def search(self, runner: ActionRunner, request: Request, projection: str) -> Answer:
        """A page of documents."""
        limit, page = number(request, "limit", 20, 1000), number(request, "page", 1, 10_000)
        asked: dict[str, Any] = {
            "text": words(request),
            "filters": filters(request),
            "facets": several(request, "facet", MOST_FACETS),
        }
        if projection not in self.projections().names():
            raise NotFound(f"there is no projection {projection[:100]!r}")
        runner.require(SEARCH + projection, asked)
        return shown(hits_of(self._found(projection, asked, limit, page)))

    def _found(self, projection: str, asked: dict[str, Any], limit: int, page: int) -> Hits:
        try:
            repo = EsRepo(self.projections().store, self.bus.application.projections)
            return repo.search(projection, limit=limit, offset=(page - 1) * limit, **asked)
        except UnknownProjection as error:
            raise NotFound(str(error)) from None
        except QueryRefused as error:
            raise Malformed(str(error)[:500]) from None


def _described(ticket: Ticket) -> dict[str, Any]:
    told = described_ticket(ticket)
    return told | ({"problem": "the broker does not have it yet; it is sent again"} if "problem" in told else {})
