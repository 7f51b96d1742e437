"""Sandbox: a private database in which actions run again, with the same Application bound to it.

One connection and one long transaction hold it; each action is a savepoint in it. Its rows are recorded by the same
triggers as in production, and told by the same images. The journal that is replayed is only ever read, over connections
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine, Table, select, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from actionbus.core import Application, Bus
from actionbus.core.errors import ActionBusError
from actionbus.core.gateway.execution import Attempt, Execution
from actionbus.core.gateway.failures import as_ours
from actionbus.core.gateway.identity import Identity
from actionbus.core.gateway.intent import Intent, intent_of
from actionbus.core.gateway.nested import NestedRunner
from actionbus.core.gateway.outcomes import row_of_failure
from actionbus.core.history.databases import database_of
from actionbus.core.history.shapes import latest
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.history_ddl import IMAGES
from actionbus.core.storage.pooling import ACTING
from actionbus.core.storage.rows import Row
from actionbus.core.values import payload, tagged
from actionbus.core.values.caller import Caller
from actionbus.replay import sqlalchemy_inside as inside
from actionbus.replay.broker import SandboxBroker
from actionbus.replay.errors import ReplayError
from actionbus.replay.generated import GeneratedValues
from actionbus.replay.guard import GuardedBlock
from actionbus.replay.history import Entry
from actionbus.replay.keys import Fresh, Sequences
from actionbus.replay.nets import HeldRow, Net, net_of
from actionbus.replay.playback import PlayedWorld
from actionbus.replay.rerun import Rerun
from actionbus.replay.standins import stand_in
from actionbus.replay.tables import Layout, business_tables, is_checked_late
from actionbus.replay.tables_postgresql import PostgreSQLTables
from actionbus.replay.tables_sqlite import SQLiteTables
from actionbus.replay.transaction import SandboxTransaction, keep_inside
from actionbus.replay.upcasting import upcast

Prepare = Callable[[Engine], None]
Commits = Callable[[int, str], Sequence[Net]]
"""Given a statement's number, counted from 1, and its text: what others commit just before it."""
_COMMIT_EVERY: Final = 200
_TABLES: Final = {"postgresql": PostgreSQLTables, "sqlite": SQLiteTables}


class Sandbox:
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
        self.bus = Bus(application, database, broker=SandboxBroker(), session_factory=session_factory or Session)
        self.engine = self.bus.engine
        self.overrides = MappingProxyType(dict(overrides or {}))
        self.fresh = Fresh()
        self._held = ExitStack()
        self._since_commit = 0
        self._asides = 0
        self._last_image = 0
        self._foreign: list[range] = []
        """The images of what others committed while an action ran."""
        try:
            self._open(prepare)
        except BaseException:
            self._held.close()
            self.bus.close()
            raise

    def _open(self, prepare: Prepare | None) -> None:
        if self.bus.journal.exists():
            raise ReplayError("the sandbox's database has a journal already; give an empty one, which is thrown away")
        self._make_tables(prepare)
        self.connection = self._held.enter_context(self.bus.backend.connection())
        keep_inside(self.connection)
        self._begin()
        models = business_tables(self.bus.application, self.connection)
        database = database_of(self.connection)
        shapes = latest(database.shapes(self.connection, self.bus.backend.prefix))
        self._shapes = {each.shape: each for each in shapes.values()}
        self.tables = _TABLES[self.engine.dialect.name](self.connection, shapes, models)
        self.models = models
        self._check_deferred = self.engine.dialect.name == "postgresql" and any(map(is_checked_late, models))
        self._images = database.images(self.bus.backend, self.connection)
        self.sequences = Sequences(self.connection, self.tables)
        inside.tell_defaults(self.engine, self._impose_defaults)

    def _impose_defaults(self, context: DefaultExecutionContext) -> None:
        if isinstance(acting := self.connection.info.get(ACTING), SandboxTransaction):
            acting.impose_defaults(context)

    def _make_tables(self, prepare: Prepare | None) -> None:
        models = self.bus.application.models
        if prepare is not None:
            prepare(self.engine)
        elif models is not None:
            with self.engine.begin() as connection:
                for schema in sorted({table.schema for table in models.tables.values() if table.schema}):
                    connection.execute(CreateSchema(schema, if_not_exists=True))
        self.bus.create()  # creates them, once: what an application does besides need not bear to be done again
        if self.engine.dialect.name == "postgresql":
            self._let_keys_be_given()
        if self.engine.dialect.name == "postgresql":
            with self.engine.begin() as connection:  # what an action changed is looked for by number alone
                connection.exec_driver_sql(f"CREATE INDEX ON {self.bus.backend.prefix}{IMAGES} (image)")

    def _let_keys_be_given(self) -> None:
        with self.engine.begin() as connection:
            always = connection.execute(
                text("""
                SELECT format('ALTER TABLE %I.%I ALTER %I SET GENERATED BY DEFAULT',
                              table_schema, table_name, column_name)
                FROM information_schema.columns WHERE is_identity = 'YES' AND identity_generation = 'ALWAYS'
                AND table_name NOT LIKE 'actionbus%'
            """)
            ).scalars()
            for statement in always.all():
                connection.exec_driver_sql(statement)

    def _begin(self) -> None:
        self.begun_at = datetime.now(UTC)
        """What the database's clock tells on PostgreSQL as long as the transaction lasts, nearly."""
        self.connection.exec_driver_sql("BEGIN")
        if self.engine.dialect.name == "postgresql":  # so that no write counts as one past the gateway
            self.connection.exec_driver_sql(f"SELECT set_config('actionbus.action', '{UUID(int=0).hex}', true)")

    def commit(self) -> None:
        """Make what was run so far durable, as far as the sandbox is: a transaction must not grow for ever."""
        self.connection.exec_driver_sql("COMMIT")
        self._since_commit = 0
        self._begin()

    def load(self, rows: Mapping[str, Sequence[HeldRow]]) -> None:
        """Put the rows of a point in history into the empty tables."""
        self.tables.load(rows)
        self._last_image = self._read_last_image()

    def put(self, nets: Sequence[Net], *, begun: Sequence[str] = ()) -> None:
        """Make rows what history says of them."""
        if nets or begun:
            self.tables.put(nets, begun=begun)
            self._last_image = self._read_last_image()

    @contextmanager
    def before(self, nets: Sequence[Net]) -> Iterator[None]:
        """Meanwhile the tables are as they would be without these changes, which were the last ones. PostgreSQL."""
        with self.aside():
            self.tables.take_back(nets)
            self._last_image = self._read_last_image()
            yield

    @contextmanager
    def laid_out(self, tables: Sequence[str], layout: Layout | None) -> Iterator[bool]:
        """Meanwhile rows lie elsewhere; see `Tables.laid_out`."""
        with self.aside(), self.tables.laid_out(tables, layout) as done:
            self._last_image = self._read_last_image()
            yield done

    def _happen(self, nets: Sequence[Net]) -> None:
        if nets:
            low = self._read_last_image()
            self.tables.put(nets)
            self._foreign.append(range(low + 1, self._read_last_image() + 1))

    def _images_beyond(self, number: int) -> tuple[list[Net], int]:
        images = self._images.beyond(self._shapes, number)
        own = [each for each in images if not any(each.image in theirs for theirs in self._foreign)]
        return net_of(own, self._shapes), images[-1].image if images else number

    def _read_last_image(self) -> int:
        last = f"SELECT coalesce(max(image), 0) FROM {self.bus.backend.prefix}{IMAGES}"
        return int(self.connection.exec_driver_sql(last).scalar_one())

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
        self._foreign = []
        if meanwhile is not None:
            transaction.meanwhile = lambda number, statement: self._happen(meanwhile(number, statement))
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
            raise
        succeeded = error is None
        nets, last = self._images_beyond(self._last_image) if succeeded else ([], self._last_image)
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
            nets,
            last,
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
        if rerun.succeeded:
            self._last_image = rerun.last_image
        self._since_commit += 1
        if self._since_commit >= _COMMIT_EVERY and not self._asides:
            self.commit()

    def drop(self, rerun: Rerun) -> None:
        """Take back what the action wrote."""
        if rerun.transaction is not None:
            rerun.transaction.end(keep=False)
            rerun.transaction = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done to the tables in the block is taken back after it."""
        last = self._last_image
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
            self._last_image = last

    def _back_to(self, name: str) -> None:
        cursor = driver_connection(self.connection).cursor()
        cursor.execute(f"ROLLBACK TO SAVEPOINT {name}")
        cursor.execute(f"RELEASE SAVEPOINT {name}")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table's rows as SQLAlchemy's types give them, by key."""
        model = self.model(table)
        keys = list(model.primary_key.columns) or list(model.columns)
        found = self.connection.execute(select(model).order_by(*keys))
        return [{column.name: row._mapping[column] for column in model.columns} for row in found]

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows into a table; values as tagged JSON has them."""
        decoded = [{name: tagged.decode(value) for name, value in row.items()} for row in rows]
        self.connection.execute(self.model(table).insert(), decoded)
        if not self._asides:
            self._last_image = self._read_last_image()

    def model(self, table: str) -> Table:
        """A business table by its name. Raises ReplayError."""
        for each in self.models:
            if table in (each.fullname, each.name):
                return each
        raise ReplayError(f"there is no table {table!r}; there are: {', '.join(each.fullname for each in self.models)}")

    def close(self) -> None:
        """Let go of the database; what was run may stay in it or not."""
        try:
            with suppress(Exception):  # one that was lost has rolled back
                self.connection.exec_driver_sql("ROLLBACK")
        finally:
            self._held.close()
            self.bus.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _identity(entry: Entry, overrides: Mapping[str, Any]) -> Identity:
    asked, outcome = entry.submitted, entry.outcome
    if asked.seed is None:
        raise ActionBusError(f"the submitted record {asked.position} has no seed, so it cannot be replayed")
    context = payload.dumps(asked.context) if asked.context is not None else None
    caller = Caller(asked.actor, asked.correlation_id, context, overrides)
    return Identity(outcome.action_id, asked.seed, caller, asked.correlation_id, asked.cause_id, asked.release)
