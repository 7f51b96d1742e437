"""Sandbox: runs actions again upon a private database (`sandbox_database`), with the same Application bound to it.

Each action is a savepoint in the one long transaction. Its rows are recorded by the same triggers as in production, and
told by the same images. The journal that is replayed is only ever read, over connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Session

from actionbus.core import Application
from actionbus.core.errors import ActionBusError
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import row_of_failure
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.pooling import ACTING
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import Net, change_of, net_of
from actionbus.replay.sandbox import sqlalchemy_inside as inside
from actionbus.replay.sandbox.generated import GeneratedValues
from actionbus.replay.sandbox.guard import GuardedBlock
from actionbus.replay.sandbox.happening import Commits, Happening
from actionbus.replay.sandbox.keys import Fresh
from actionbus.replay.sandbox.playback import PlayedWorld
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.sandbox.sandbox_database import Prepare, SandboxDatabase
from actionbus.replay.sandbox.standins import stand_in
from actionbus.replay.sandbox.tables import is_checked_late
from actionbus.replay.sandbox.transaction import SandboxTransaction
from actionbus.replay.sandbox.upcasting import upcast

_COMMIT_EVERY: Final = 200


class Sandbox(SandboxDatabase):
    """A database with an application's tables. `prepare` makes them, by default from the application's models.

    `overrides` puts objects in place of dependencies, as `Bus.runner` does: their calls are made, not played back.
    Raises ReplayError for a database that holds tables already.
    """

    def __init__(
        self,
        application: Application,
        database: str | URL | Engine,
        *,
        prepare: Prepare | None = None,
        overrides: Mapping[str, Any] | None = None,
        session_factory: Callable[..., Session] | None = None,
    ) -> None:
        super().__init__(application, database, prepare=prepare, session_factory=session_factory)
        self.overrides = MappingProxyType(dict(overrides or {}))
        self.fresh = Fresh()
        self._is_running = False
        self._check_deferred = self.engine.dialect.name == "postgresql" and any(map(is_checked_late, self.models))
        inside.tell_defaults(self.engine, self._impose_defaults)

    def _impose_defaults(self, context: DefaultExecutionContext) -> None:
        if isinstance(acting := self.connection.info.get(ACTING), SandboxTransaction):
            acting.impose_defaults(context)

    def run(
        self,
        entry: Entry,
        recorded: Sequence[Net] = (),
        *,
        world: PlayedWorld | None = None,
        arguments: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        meanwhile: Commits | None = None,
        generated: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Rerun:
        """Run an action as history has it, on the state as it is; end it with `keep` or `drop`.

        What the database generated is taken from the rows that are `recorded` of it. `meanwhile` says what others
        commit just before each statement. `generated` are rows that a test knows in place of recorded ones.
        """
        world = world or PlayedWorld(entry)
        self._since_commit += 1
        self.sequences.stand_before(recorded)
        scrubber = Scrubber()
        intent = self._intent(entry, arguments, world, scrubber)
        identity = _identity(entry, self.overrides if overrides is None else overrides)
        transaction = SandboxTransaction(
            self.bus.backend,
            self.connection,
            self.bus.services.session_factory,
            identity.action_id,
            GeneratedValues(recorded, self.tables, self.fresh, generated or {}),
            self._point(),
        )
        self._is_running = True
        happening = None
        if meanwhile is not None:
            happening = Happening(meanwhile, lambda: self._numbers_beyond(self._last_image), self.tables.put)
            transaction.meanwhile = happening.before
        attempt = Attempt(
            self.bus.services,
            transaction,
            scrubber,
            entry.started_at,
            identity.seed,
            NestedRunner,
            seen=entry.outcome.seen,
            mode="replay",
            world=world,
        )
        attempt.sealer.register(self.bus.registry.find(intent.name), identity.action_id, intent.values)
        try:
            with GuardedBlock(self.engine, intent.name):
                row, error = self._execute(attempt, identity, intent)
        except BaseException:
            with suppress(Exception):  # Ctrl-C may have cost the connection; it is what is told
                transaction.end(keep=False)
            self._is_running = False
            raise
        succeeded = error is None
        images = self._images.beyond(self._shapes, self._last_image) if succeeded else []
        last = images[-1].image if images else self._last_image
        own = images if happening is None else [each for each in images if not happening.is_foreign(each.image)]
        return Rerun(
            row,
            transaction.nested if succeeded else [],
            error,
            transaction.statements,
            world.unplayable,
            world.stood_in,
            world.redacted,
            transaction.bound,
            transaction.made_on_update,
            net_of(own, self._shapes),
            last,
            [] if happening is None else [(happening.statement_of(n.image), change_of(n, self._shapes)) for n in own],
            transaction,
        )

    def _intent(
        self, entry: Entry, arguments: Mapping[str, Any] | None, world: PlayedWorld, scrubber: Scrubber
    ) -> Intent:
        """What was asked, in the present handler's form, with stand-ins for what was redacted."""
        asked = entry.submitted
        given = dict(asked.arguments if arguments is None else arguments)
        action = self.bus.registry.find(asked.action)
        if action is not None:
            if asked.handler_version not in (None, action.handler.version):
                if arguments is None and entry.outcome.arguments:  # as they were validated, which `upcast` can rely on
                    given = dict(entry.outcome.arguments)
                given = upcast(action.handler, given, asked.handler_version or 0)
            for name, value in given.items():
                if value == payload.REDACTED:
                    given[name] = stand_in(action, name, world)
                    world.redacted = True
        return intent_of(asked.action, given, None, action, self.bus.application.limits, scrubber)

    def _execute(self, attempt: Attempt, identity: Identity, intent: Intent) -> tuple[Row, BaseException | None]:
        """What the gateway does with an action, as far as its outcome's row; and what was raised."""
        execution: Execution | None = None
        try:
            execution = Execution(attempt, self.bus.registry.get(intent.name), identity)
            row = execution.run(intent)
            if self._check_deferred:
                attempt.transaction.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
                attempt.transaction.session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            return row, None
        except (Exception, SystemExit) as caught:  # an action that would end the process ends itself
            error = as_ours(caught)
            attempt.scrubber.exception(error)
            row = row_of_failure(execution, identity, intent.name, error, attempt.scrubber, attempt.started_at)
            return row, error

    def _point(self) -> str:
        """The name of the savepoint that sessions join; a new one where the last was rolled back."""
        point = self.connection.get_nested_transaction()
        if point is None or not point.is_active:
            point = self.connection.begin_nested()
        return inside.name_of(point)

    def keep(self, rerun: Rerun) -> None:
        """End the action's transaction; a success stays, anything else leaves nothing."""
        assert rerun.transaction is not None
        rerun.transaction.end(keep=rerun.succeeded)
        rerun.transaction = None
        self._is_running = False
        if rerun.succeeded:
            self._last_image = rerun.last_image
        self._commit_at_times()

    def put(self, nets: Sequence[Net], *, begun: Sequence[str] = ()) -> None:
        """Make rows what history says of them."""
        super().put(nets, begun=begun)
        self._commit_at_times()

    def _commit_at_times(self) -> None:
        """After many runs, also such as were taken back: each is a savepoint, of which the server keeps much."""
        if self._since_commit >= _COMMIT_EVERY and not self._asides and not self._is_running:
            self.commit()

    def drop(self, rerun: Rerun) -> None:
        """Take back what the action wrote."""
        if rerun.transaction is not None:
            rerun.transaction.end(keep=False)
            rerun.transaction = None
            self._is_running = False


def _identity(entry: Entry, overrides: Mapping[str, Any]) -> Identity:
    asked, outcome = entry.submitted, entry.outcome
    if asked.seed is None:
        raise ActionBusError(f"the submitted record {asked.position} has no seed, so it cannot be replayed")
    context = payload.dumps(asked.context) if asked.context is not None else None
    caller = Caller(asked.actor, asked.correlation_id, context, overrides)
    return Identity(outcome.action_id, asked.seed, caller, asked.correlation_id, asked.cause_id, asked.release)
