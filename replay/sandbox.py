"""Sandbox: a private database in which actions run again, with the same Application bound to it.

One connection and one long transaction hold it; each action is a savepoint in it. The journal that is replayed is only
ever read, over connections of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Engine, Table, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from actionbus.core import Application, Bus
from actionbus.core.declare.handler import ActionHandler
from actionbus.core.declare.queue import Message, Queue
from actionbus.core.errors import ActionBusError
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours, status_of
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import row_of_failure
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.replay.changes import ORIGINAL, RowChange, RowLog
from actionbus.replay.errors import ReplayError
from actionbus.replay.generated import Fresh, Generated
from actionbus.replay.guard import guarded
from actionbus.replay.history import Entry
from actionbus.replay.playback import PlayedWorld
from actionbus.replay.standins import stand_in
from actionbus.replay.tables import business_tables
from actionbus.replay.transaction import SandboxTransaction

Prepare = Callable[[Engine], None]
_COMMIT_EVERY: Final = 200


class SandboxQueue(Queue):
    """Lets handlers queue actions, which are compared with history; nothing is sent."""

    def publish(self, message: Message) -> None:
        """Send nothing."""


@dataclass(slots=True)
class Rerun:
    """What came of running an action again: the rows that its journal would have got, and what else is known."""

    outcome: Row
    nested: list[Row]
    error: BaseException | None
    statements: list[str]
    unplayable: list[str]
    stood_in: bool
    redacted: bool
    transaction: SandboxTransaction | None = field(default=None, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether its writes are to be kept."""
        return self.outcome.status == "succeeded"


class Sandbox:
    """A database with an application's tables. `prepare` makes them, by default from the application's models.

    Without `log` no row changes are kept, so that it cannot go back. `overrides` puts objects in place of dependencies,
    as `Bus.runner` does: their calls are made, not played back.
    """

    def __init__(
        self,
        application: Application,
        database: str | URL | Engine,
        *,
        prepare: Prepare | None = None,
        overrides: Mapping[str, Any] | None = None,
        session_factory: Callable[..., Session] | None = None,
        log: bool = True,
    ) -> None:
        self.bus = Bus(application, database, queue=SandboxQueue(), session_factory=session_factory or Session)
        self.engine = self.bus.engine
        self.overrides = MappingProxyType(dict(overrides or {}))
        self.fresh = Fresh()
        self.at = 0
        """The position whose state the tables hold."""
        self.logging = log
        self._held = ExitStack()
        self._prepare = prepare
        self.head = 0
        """The last position that was run."""
        self.is_new = True
        self._since_commit = 0
        self._asides = 0
        self._open()

    def _open(self) -> None:
        with self.engine.begin() as connection:
            there = connection.dialect.has_table(connection, "actionbus_now")
        if not there:
            self._make_tables()
        self.connection = self._held.enter_context(self.bus.backend.connection())
        self._begin()
        self.log = RowLog(self.connection, business_tables(self.bus.application, self.connection))
        deferred = any(_deferred(table) for table in self.tables())
        self._check_deferred = deferred and self.engine.dialect.name == "postgresql"
        self.is_new = not there
        if there:
            self.at, self.head = self.connection.execute(text("SELECT at, head FROM actionbus_now")).one()
        else:
            self.log.create(triggers=self.logging)
            self.commit()

    def _make_tables(self) -> None:
        models = self.bus.application.models
        if self._prepare is not None:
            self._prepare(self.engine)
        elif models is not None:
            with self.engine.begin() as connection:
                for schema in sorted({table.schema for table in models.tables.values() if table.schema}):
                    connection.execute(CreateSchema(schema, if_not_exists=True))
                models.create_all(connection)
        if self.engine.dialect.name == "postgresql":
            self._let_keys_be_given()

    def _let_keys_be_given(self) -> None:
        with self.engine.begin() as connection:
            always = connection.execute(text("""
                SELECT format('ALTER TABLE %I.%I ALTER %I SET GENERATED BY DEFAULT',
                              table_schema, table_name, column_name)
                FROM information_schema.columns WHERE is_identity = 'YES' AND identity_generation = 'ALWAYS'
            """)).scalars()  # fmt: skip
            for statement in always.all():
                connection.exec_driver_sql(statement)

    def tables(self) -> list[Table]:
        """The business tables, those that others refer to first."""
        return [logged.table for logged in self.log.logged.values()]

    def _begin(self) -> None:
        self.connection.exec_driver_sql("BEGIN")

    def commit(self) -> None:
        """Make what was run so far durable, as far as the sandbox is."""
        if self.logging:
            now = {"at": self.at, "head": self.head}
            self.connection.execute(text("UPDATE actionbus_now SET at = :at, head = :head"), now)
        self.connection.exec_driver_sql("COMMIT")
        self._since_commit = 0
        self._begin()

    def run(
        self,
        entry: Entry,
        *,
        world: PlayedWorld | None = None,
        arguments: Mapping[str, Any] | None = None,
        line: int = ORIGINAL,
        overrides: Mapping[str, Any] | None = None,
    ) -> Rerun:
        """Run an action as history has it, on the state as it is. End it with `keep` or `drop`."""
        world = world or PlayedWorld(entry)
        if self.logging:
            self.log.begin(entry.position, line)
        scrubber = Scrubber()
        intent = self._intent(entry, arguments, world, scrubber)
        identity = _identity(entry, self.overrides if overrides is None else overrides)
        transaction = SandboxTransaction(
            self.bus.backend, self.connection, self.bus.services.session_factory, self.bus.application.limits,
            identity.action_id, Generated(entry, self.fresh, scrubber), self._point(),
        )  # fmt: skip
        attempt = Attempt(
            self.bus.services, transaction, scrubber, entry.started_at, identity.seed, deque(), entry.outcome.seen,
            mode="replay", world=world,
        )  # fmt: skip
        try:
            with guarded(self.engine, intent.name):
                row, error = self._execute(attempt, identity, intent)
        except BaseException:
            with suppress(Exception):  # Ctrl-C may have cost the connection; it is what is told
                transaction.end(keep=False)
            raise
        nested = transaction.nested if error is None else []
        return Rerun(
            row,
            nested,
            error,
            transaction.statements,
            world.unplayable,
            world.stood_in,
            world.redacted,
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
            execution = Execution(attempt, self.bus.registry.get(intent.name), identity, NestedRunner())
            result = execution.run(intent)
            if self._check_deferred:
                attempt.transaction.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
                attempt.transaction.session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
            return execution.outcome("succeeded", result, None), None
        except Exception as caught:
            error = as_ours(caught)
            attempt.scrubber.exception(error)
            status, started = status_of(error), attempt.started_at
            return row_of_failure(execution, identity, intent.name, status, error, attempt.scrubber, started), error

    def _point(self) -> str:
        """The name of the savepoint that sessions join; a new one where the last was rolled back."""
        point = self.connection.get_nested_transaction()
        if point is None or not point.is_active:
            point = self.connection.begin_nested()
        name: str = point._savepoint
        return name

    def keep(self, rerun: Rerun) -> None:
        """End the action's transaction; a success stays, anything else leaves nothing."""
        assert rerun.transaction is not None
        rerun.transaction.end(keep=rerun.succeeded)
        rerun.transaction = None

    def advance(self, entry: Entry, verdict: str) -> None:
        """Note that an action was run: the tables hold the state after it. Only then may all of it be committed."""
        self.at = self.head = max(entry.position, self.head)
        if self.logging:
            self.log.note(entry.position, str(entry.action_id), None if verdict == "same" else verdict)
        self._since_commit += 1
        if self._since_commit >= _COMMIT_EVERY:
            self.commit()

    def drop(self, rerun: Rerun) -> None:
        """Take back what the action wrote."""
        if rerun.transaction is not None:
            rerun.transaction.end(keep=False)
            rerun.transaction = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Like `aside`, for many actions: keys that were given out are taken back too."""
        at, head, fresh = self.at, self.head, self.fresh.copy()
        try:
            with self.aside():
                yield
        finally:
            self.at, self.head, self.fresh = at, head, fresh

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done to the tables in the block is taken back after it."""
        self._asides += 1
        name = f"actionbus_aside_{self._asides}"
        driver_connection(self.connection).cursor().execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            with suppress(Exception):
                self._back_to(name)
            raise
        else:
            self._back_to(name)
        finally:
            self._asides -= 1

    def _back_to(self, name: str) -> None:
        cursor = driver_connection(self.connection).cursor()
        cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")
        cursor.execute(f"RELEASE SAVEPOINT {name}")

    def travel(self, position: int) -> None:
        """Put the tables into the state after this position, which must have been run before."""
        if position == self.at:
            return
        self.connection.exec_driver_sql("COMMIT")
        postgresql = self.engine.dialect.name == "postgresql"
        off, on = (
            ("SET session_replication_role = replica", "SET session_replication_role = DEFAULT")
            if postgresql
            else ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON")
        )
        try:
            self.connection.exec_driver_sql(off)
        except DBAPIError as error:
            self._begin()
            raise ReplayError(
                "the sandbox's user may not switch off triggers, which going back takes; use a superuser of a server "
                "of your own (--sandbox, ACTIONBUS_SANDBOX_URL)"
            ) from error
        try:
            self._begin()
            self.log.pause()
            self.log.travel(self.at, position)
            self.connection.execute(text("UPDATE actionbus_now SET at = :at"), {"at": position})
            self.connection.exec_driver_sql("COMMIT")
            self.at = position
        except BaseException:
            self.connection.exec_driver_sql("ROLLBACK")
            raise
        finally:
            self.connection.exec_driver_sql(on)
            self._begin()

    def changes(self, position: int, line: int = ORIGINAL) -> list[RowChange]:
        """What an action changed, row by row."""
        return self.log.changes([position], line)

    def close(self, *, keep: bool = True) -> None:
        """Let go of the database; `keep` what was run since the last commit, or not, where it broke off."""
        try:
            if keep:
                self.commit()
            with suppress(Exception):  # a connection that was lost has rolled back
                self.connection.exec_driver_sql("ROLLBACK")
        finally:
            self._held.close()
            self.bus.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(keep=kind is None)


def upcast(handler: type[ActionHandler], arguments: dict[str, Any], version: int) -> dict[str, Any]:
    """Older arguments in the handler's present form. Raises ReplayError where `upcast` fails, or gives no dict."""
    try:
        made: Any = handler.upcast(dict(arguments), version)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ReplayError(f"{handler.__qualname__}.upcast() of version {version} raised {told}") from error
    if not isinstance(made, dict):
        raise ReplayError(f"{handler.__qualname__}.upcast() must return a dict, not a {type(made).__name__}")
    return made


def _identity(entry: Entry, overrides: Mapping[str, Any]) -> Identity:
    asked, outcome = entry.submitted, entry.outcome
    if asked.seed is None:
        raise ActionBusError(f"the submitted record {asked.position} has no seed, so it cannot be replayed")
    context = payload.dumps(asked.context) if asked.context is not None else None
    caller = Caller(asked.actor, asked.correlation_id, context, overrides)
    return Identity(outcome.action_id, asked.seed, caller, asked.correlation_id, asked.cause_id, asked.release)


def _deferred(table: Table) -> bool:
    return any(getattr(constraint, "initially", None) == "DEFERRED" for constraint in table.constraints)
