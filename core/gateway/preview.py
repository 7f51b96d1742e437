"""A preview: an action is run as `execute` would run it, its rows are told from their images, and all is rolled back.

Nothing is submitted: the journal says what was asked for, and a preview asks for nothing. What is shown is what the
triggers recorded inside the transaction, so it is what an outcome would have. Called by `ActionRunner.preview`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from actionbus.core.errors import JournalUnavailable, Misuse
from actionbus.core.gateway.call import IN_CHILD
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import intent_of
from actionbus.core.gateway.leftovers import rolled_back
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import outcome_of, row_of_failure
from actionbus.core.gateway.previewed_world import PreviewedWorld
from actionbus.core.gateway.services import Services
from actionbus.core.gateway.transaction import ActionTransaction
from actionbus.core.history.uncommitted import UncommittedImages
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.rows import Row
from actionbus.core.storage.statements import ENDED_INSIDE
from actionbus.core.storage.writable import require_writable
from actionbus.core.values import payload
from actionbus.core.values.backoff import scattered
from actionbus.core.values.caller import Caller
from actionbus.core.values.change import Change, Source
from actionbus.core.values.determinism import now
from actionbus.core.values.preview import Preview


class Previewing:
    """One preview: an action that is run, looked at and rolled back."""

    def __init__(self, services: Services, caller: Caller, name: Any, arguments: Any) -> None:
        self._services = services
        self._backend = services.backend
        self._scrubber = Scrubber()
        self._action = services.registry.find(name)
        limits = services.application.limits
        self._intent = intent_of(name, arguments, None, self._action, limits, self._scrubber)
        self._name = name
        self._identity = Identity.new(caller, services.application.release)
        self._started_at = now()
        self._process = os.getpid()

    def run(self) -> Preview:
        """What would come of it. Raises JournalUnavailable where that cannot be told, Misuse for what must not be."""
        told = lambda: self._identity.call(self._intent.name, "preview")  # noqa: E731
        return self._services.middleware.around_call(told, self._run)

    def _run(self) -> Preview:
        try:
            with self._backend.connection() as connection:
                unrecorded = self._services.lookout.unrecorded(connection)
                require_writable(connection)
                preview = self._attempted(connection)
        except self._backend.engine.dialect.loaded_dbapi.Error as error:
            self._scrubber.exception(error)
            raise JournalUnavailable("the database cannot be asked; nothing was changed") from error
        return Preview(preview.outcome, preview.changes, preview.queued, preview.refused, unrecorded)

    def _attempted(self, connection: Connection) -> Preview:
        for number in range(1, self._services.attempts + 1):
            transaction = _Transaction(
                self._backend, connection, self._isolation(), self._services.session_factory, self._identity.action_id
            )
            try:
                return self._attempt(transaction)
            except Exception as error:
                again = self._backend.chain_is_transient(error) and number < self._services.attempts
                if not again:
                    raise
            finally:
                rolled_back(transaction, connection)
            time.sleep(scattered(number, 0.01, 1.0))
        raise AssertionError("the last attempt either returns or raises")

    def _isolation(self) -> str:
        return self._action.isolation if self._action else self._services.application.isolation

    def _attempt(self, transaction: _Transaction) -> Preview:
        world = PreviewedWorld()
        attempt = Attempt(
            self._services,
            transaction,
            self._scrubber,
            self._started_at,
            self._identity.seed,
            NestedRunner,
            mode="preview",
            world=world,
        )
        execution: Execution | None = None
        try:
            execution = Execution(attempt, self._services.registry.get(self._name), self._identity)
            row = execution.run(self._intent)
            if os.getpid() != self._process:
                raise Misuse(IN_CHILD)
            transaction.check()
        except Exception as error:
            if self._backend.chain_is_transient(error) or transaction.was_ended_inside(error):
                raise
            row = self._failure(execution, transaction.refusal(error) or error)
            return Preview(outcome_of(row, 0), [], refused=tuple(world.refused))
        changes = self._changes(transaction)
        return Preview(outcome_of(row, 0, execution.result), changes, tuple(_queued(transaction)), tuple(world.refused))

    def _failure(self, execution: Execution | None, caught: BaseException) -> Row:
        error = self._scrubber.exception(as_ours(caught))
        return row_of_failure(execution, self._identity, self._intent.name, error, self._scrubber, self._started_at)

    def _changes(self, transaction: _Transaction) -> list[Change]:
        if not transaction.has_begun:
            return []
        rows = [each for each in transaction.nested if each.kind == "outcome" and each.status == "succeeded"]
        nested = {each.action_id: self._source(each.action_id, each.action) for each in rows}
        found = UncommittedImages(self._backend, transaction.connection, nested)
        return found.changes(self._source(self._identity.action_id, self._intent.name), nested)

    def _source(self, action_id: UUID, action: str) -> Source:
        caller = self._identity.caller
        return Source(0, action_id, "outcome", action, caller.actor, self._started_at, None, None)


class _Transaction(ActionTransaction):
    """One that is never committed."""

    @property
    def has_begun(self) -> bool:
        """Whether anything used the database."""
        return self._has_begun

    def check(self) -> None:
        """Have done what COMMIT would do, and see that it is the one that was begun. Raises DBAPIError, Misuse."""
        if not self._has_begun:
            return
        self._is_ending = True
        self._require_open()
        self._let_go()
        if not self._backend.is_still(self._connection, self._action_id):
            raise Misuse(ENDED_INSIDE)
        try:
            self._backend.check(self._connection)
        except self._backend.driver_errors as error:
            raise self._wrapped("SET CONSTRAINTS ALL IMMEDIATE", error) from error


def _queued(transaction: ActionTransaction) -> list[tuple[str, Mapping[str, Any]]]:
    wanted = {each.withdrawn.action_id for each in transaction.queued}
    return [
        (row.action, payload.loads(row.arguments or "{}"))
        for row in transaction.nested
        if row.kind == "submitted" and row.action_id in wanted
    ]
