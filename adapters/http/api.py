"""Api answers requests for one bus: actions, their records, searches. A framework's adapter routes requests to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from adapters.es_repo import EsRepo
from adapters.http.answer import Answer, shown
from adapters.http.reading import filters, json_of, longest_body, number, seconds, wants_queue, when
from adapters.http.refusals import Malformed, NotFound
from adapters.http.request import Request
from adapters.shown import described, described_outcome, described_record, described_run, described_ticket
from adapters.wiring import store_for
from core import ActionRunner, Bus, Outcome, PermissionDenied, Record
from projections import Projections
from projections.errors import Lagging, QueryRefused, Stopped, UnknownProjection
from projections.store import Hits

READ_JOURNAL: Final = "journal:read"
"""Asked of the checkpoint for records of somebody else's actions."""
SEARCH: Final = "search:"
"""With a projection's name, asked of the checkpoint for every search."""
ACTION_NAME: Final = r"(?![0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z)[^/]+"
"""Whatever a client sends as an action's name, but for the id of one."""


class Api:
    """Every method raises what `problems.explain` tells. `elasticsearch` is where documents are, as for `store_for`."""

    def __init__(self, bus: Bus, elasticsearch: str | None = None) -> None:
        self.bus = bus
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
        return shown({"actions": [described(action) for action in self.bus.registry]})

    def run(self, runner: ActionRunner, request: Request, name: str, body: bytes) -> Answer:
        """Run an action, or queue it."""
        arguments = json_of(request, body)
        key = request.headers.get("idempotency-key")
        due, wanted, patience = when(request), self._awaited(request), seconds(request, "timeout", 10.0)
        if due is not None or wants_queue(request):
            return self._queue(runner, request, name, arguments, key, due)
        outcome: Outcome = runner.execute(name, arguments, idempotency_key=key)
        told = described_outcome(outcome)
        if wanted:
            told["projected"] = {each: self._projected(each, outcome, patience) for each in wanted}
        return shown(told)

    def _awaited(self, request: Request) -> list[str]:
        """The projections of `wait_for`. A queued action has nothing to wait for, but its query is checked as well."""
        wanted = request.all("wait_for")
        if unknown := sorted(set(wanted) - set(self.projections().names())) if wanted else []:
            raise Malformed(f"there is no projection {unknown[0][:100]!r} to wait for", {"wait_for": ["is unknown"]})
        return wanted

    def _queue(
        self, runner: ActionRunner, request: Request, name: str, arguments: Any, key: str | None, due: datetime | None
    ) -> Answer:
        ticket = runner.execute_async(name, arguments, idempotency_key=key, eta=due)
        where = f"{request.root}/actions/{ticket.action_id}"
        return shown(described_ticket(ticket), 202, Location=where, Preference_Applied="respond-async")

    def _projected(self, name: str, outcome: Outcome, patience: float) -> bool:
        """Whether a search sees the outcome now. The action has succeeded, whatever becomes of its documents."""
        try:
            self.projections().wait_for(name, outcome, patience, refresh=True)
        except (Lagging, Stopped):
            return False
        return True

    def action(self, runner: ActionRunner, action_id: UUID) -> Answer:
        """What was submitted and what came of it, for whom it is meant."""
        bus = self.bus
        records = [record for record in bus.journal.history(action_id) if record.action_id == action_id]
        if not records or not self._may_see(runner, records[0]):
            raise NotFound(f"there is no action {action_id} that you may see")
        told: dict[str, Any] = {"action_id": action_id, "action": records[0].action}
        told |= {record.kind: described_record(record) for record in records}
        run = bus.runs.get(action_id) if len(records) == 1 else None
        told["state"] = run.state if run else "done" if len(records) > 1 else "running"
        if run:
            told["run"] = described_run(run)
        return shown(told)

    def _may_see(self, runner: ActionRunner, record: Record) -> bool:
        if record.actor == runner.actor:
            return True
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
            "text": request.first("q") or "",
            "filters": filters(request),
            "facets": request.all("facet"),
        }
        if projection not in self.projections().names():
            raise NotFound(f"there is no projection {projection[:100]!r}")
        runner.require(SEARCH + projection, asked)
        return shown(_described_hits(self._found(projection, asked, limit, page)))

    def _found(self, projection: str, asked: dict[str, Any], limit: int, page: int) -> Hits:
        try:
            return EsRepo(self.projections().store).search(projection, limit=limit, offset=(page - 1) * limit, **asked)
        except UnknownProjection as error:
            raise NotFound(str(error)) from None
        except QueryRefused as error:
            raise Malformed(str(error)[:500]) from None


def _described_hits(found: Hits) -> dict[str, Any]:
    hits = [{"key": hit.key, "score": hit.score, "document": hit.document, "highlights": hit.highlights}
            for hit in found.hits]  # fmt: skip
    return {"total": found.total, "hits": hits, "facets": found.facets}
