"""Bus binds an Application to a database: it builds runners, finds handlers and writes the journal. One per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application
from actionbus.core.declare.broker import Broker
from actionbus.core.declare.given import shown, wanted
from actionbus.core.declare.middleware import Chain, Middleware, middlewares
from actionbus.core.declare.personal import TableDeclaration, declared_of
from actionbus.core.declare.registry import Registry
from actionbus.core.errors import ConfigurationError
from actionbus.core.gateway import sql_events
from actionbus.core.gateway.inside import watch
from actionbus.core.gateway.recovery import RecoveryReport, recover
from actionbus.core.gateway.services import Services
from actionbus.core.history.created import LEFT_TO_CALLER
from actionbus.core.history.declared import declare
from actionbus.core.history.erasure import ACTION, Erasure, Work
from actionbus.core.history.history import History
from actionbus.core.history.install import install
from actionbus.core.history.lookout import Lookout
from actionbus.core.history.shapes import TableWanted
from actionbus.core.history.wanted import wanted_by
from actionbus.core.journal import Journal
from actionbus.core.queueing.claiming import run_queued, take_back_stale
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.queueing.own import OwnQueue
from actionbus.core.runner import ActionRunner
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.claims import Claims, Limit
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.storage.notifier import Announcer
from actionbus.core.storage.runs import Runs
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.identifiers import AnyId, action_id_of
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome

_NAME_LENGTH = 200


@public
class Bus:
    """The way to an application's state.

    `database` is a URL (`postgresql+psycopg2://…`, `sqlite:///…`) or an Engine of yours; with `session_factory` it
    may be left out if that is a sessionmaker bound to an engine. `schema` is where the journal's table lives
    (PostgreSQL). `attempts` is how often an action is run before a serialization failure is reported, and
    `reconnect_for` how many seconds a lost database is waited for before a call gives up with OutcomeUnknown. `broker`
    is what wakes the workers of queued actions, such as `actionbus.celery.CeleryBroker`, or nothing: workers then claim
    what is due themselves. `middleware` comes outside of the application's own. Calls that an action postpones until
    its commit (`outside(…, after_commit=True)`) are made by who ran it, right then; by workers if a broker wakes them,
    or with `leave_calls_to_workers`.

    Raises ConfigurationError listing every mistake in the application's declaration. Connects when first used; is
    thread-safe; survives fork. Close it, or use it in a `with` statement.
    """

    def __init__(
        self,
        application: Application,
        database: str | URL | Engine | None = None,
        *,
        session_factory: Callable[..., Session] | None = None,
        schema: str | None = None,
        attempts: int = 5,
        reconnect_for: float = 30.0,
        broker: Broker | None = None,
        middleware: Sequence[Middleware] = (),
        leave_calls_to_workers: bool = False,
    ) -> None:
        problems: list[str] = []
        wanted("application", application, Application, "an Application", problems)
        _check_database(database, session_factory, schema, problems)
        _check_numbers(attempts, reconnect_for, problems)
        middleware = middlewares(middleware, problems)
        if broker is not None:
            hint = f"; give CeleryBroker({broker!r})" if isinstance(broker, str) else ""
            wanted("broker", broker, Broker, f"a Broker{hint}", problems)
        wanted("leave_calls_to_workers", leave_calls_to_workers, bool, "True or False", problems)
        if problems:
            raise ConfigurationError(problems)
        registry = Registry(application)
        self._owns_engine = not isinstance(database, Engine) and database is not None
        engine = _engine_of(database, session_factory)
        backend = backend_for(engine, schema, own_engine=self._owns_engine)
        sql_events.install(backend.gateway)
        watch(engine)
        if broker is not None or any(action.performs for action in registry):
            backend.uses.add("queue")
        broker = broker or OwnQueue()
        if isinstance(broker, OwnQueue):
            broker.bind(backend)
        if any(action.personal for action in registry):
            backend.uses.add("personal")
        announced = bool(application.projections or application.subscriptions) and backend.can_announce
        self.services = Services(
            application=application,
            registry=registry,
            engine=engine,
            session_factory=session_factory or Session,
            backend=backend,
            journal=Journal(backend),
            runs=Runs(backend),
            announcer=Announcer(engine) if announced else None,
            middleware=Chain([*middleware, *application.middleware]),
            broker=broker,
            claims=Claims(backend, _limits(application), carried=broker.carries),
            performs_calls=not (broker.carries or leave_calls_to_workers),
            attempts=attempts,
            reconnect_for=reconnect_for,
            lookout=Lookout(backend, self._wanted),
        )
        """What its actions are run with."""
        self._history = History(backend, self.services.journal, wanted=self._wanted)

    def create(self) -> None:
        """Create what is not there: the journal, the application's tables, and the triggers that record their rows.

        Any number of times. Changes no table that exists; one that holds rows begins its history with a copy of them.
        Raises ConfigurationError for a table that cannot be recorded: leave it out with `unrecorded`.
        """
        self.journal.create()
        if self.application.models is not None:
            with self.engine.begin() as connection:
                self.application.models.create_all(connection.execution_options(**{LEFT_TO_CALLER: True}))
            with self.engine.begin() as connection:
                install(self.backend, connection, self._wanted())
                declare(self.backend, connection, self.declared())

    @property
    def application(self) -> Application:
        """What it binds to a database."""
        return self.services.application

    @property
    def registry(self) -> Registry:
        """The application's actions by name, checked."""
        return self.services.registry

    @property
    def engine(self) -> Engine:
        """The business database's engine, which the journal lies in too."""
        return self.services.engine

    @property
    def journal(self) -> Journal:
        """What was asked and what came of it."""
        return self.services.journal

    @property
    def history(self) -> History:
        """What rows were: told from recorded images, whatever the code is."""
        return self._history

    @property
    def runs(self) -> Runs:
        """Queued actions that have no outcome yet."""
        return self.services.runs

    @property
    def broker(self) -> Broker:
        """The broker, which wakes the workers of queued actions."""
        return self.services.broker

    @property
    def backend(self) -> Backend:
        """What knows this kind of database."""
        return self.services.backend

    def runner(
        self,
        actor: str | None = None,
        *,
        correlation_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        operator: bool = False,
    ) -> ActionRunner:
        """The gateway for one caller. Raises ValueError for an actor, id or context that no record could hold.

        `context` is JSON written with each submitted record. `overrides` puts objects in place of dependencies, for
        tests. `operator` says that the caller runs the service: what is for operators needs nobody's leave then.
        """
        return ActionRunner(
            self.services,
            Caller(
                _name("actor", actor),
                _name("correlation_id", correlation_id),
                self._context_text(context),
                MappingProxyType(dict(overrides or {})),
                operator,
            ),
        )

    def execute(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Run one action on behalf of `actor`; see `ActionRunner.execute`."""
        runner = self.runner(actor, correlation_id=correlation_id, context=context)
        return runner.execute(name, arguments, idempotency_key=idempotency_key)

    def run_queued(
        self, action_id: AnyId, worker: str = "worker", *, overrides: Mapping[str, Any] | None = None
    ) -> Outcome | None:
        """Run an action that was queued, if it may begin now, as a worker does; see `queueing.claiming`.

        `overrides` puts objects in place of dependencies, for tests.
        """
        return run_queued(self.services, action_id_of(action_id), worker, overrides or {})

    def recover(self, older_than: timedelta = timedelta(minutes=1)) -> RecoveryReport:
        """Give abandoned actions the outcome `interrupted`; let queued ones be run that nobody picked up.

        Workers and projectors do so by themselves. Safe at any time, see `gateway.recovery`.
        """
        recovered = recover(self.services, older_than)
        taken_back = take_back_stale(self.services)
        recovered.requeued.extend(Dispatcher(self).send(lost=True) if self.broker.carries else taken_back)
        return recovered

    def erase(self, subject: object, *, actor: str | None = None, operator: bool = False) -> Erasure:
        """Erase what is recorded of one subject: personal columns in row images, and the keys of personal arguments.

        `subject` is the id that the columns declared with `info={"personal": …}` name. It is an action on record,
        `erase_subject`, which does not say who it was: that can be shown with the receipt. The application's own rows
        are its own to remove, best before this; those that stand are counted. Any number of times. A checkpoint is
        asked for `history:erase`, unless an `operator` does it; where there is none, whoever has the bus may. Raises
        PermissionDenied, JournalUnavailable where writers do not make room, ValueError if no subject is given.
        """
        if subject is None or not str(subject):
            raise ValueError("say who is to be erased: `subject` is the id that the application knows them by")
        work = Work(self.backend, self.declared(), subject)
        told = {"subject": work.commitment}
        return work.told(self.operate(work.application(self.application), ACTION, told, actor=actor, operator=operator))

    def operate(
        self, application: Application, name: str, arguments: Mapping[str, Any], *, actor: str | None, operator: bool
    ) -> Outcome:
        """Run an action of operators, which `application` has: on what was recorded, past the middleware.

        Its permission is asked of the checkpoint unless an `operator` does it; where there is none, whoever has the bus
        may.
        """
        services = replace(self.services, application=application, registry=Registry(application), middleware=Chain([]))
        may = operator or not services.registry.has_checkpoint
        return ActionRunner(services, Caller(_name("actor", actor), operator=may)).execute(name, arguments)

    def declared(self) -> list[TableDeclaration]:
        """What the application declares of its recorded tables for the sake of privacy."""
        moved = self.engine.get_execution_options().get("schema_translate_map") or {}
        found = declared_of(self.application.models, self.application.unrecorded)
        return [each._replace(schema=moved.get(each.schema, each.schema)) for each in found]

    def close(self) -> None:
        """Close the connections of an engine that the Bus made itself; leave one that was handed in alone."""
        if self.services.announcer:
            self.services.announcer.close()
        self.services.broker.close()
        if self._owns_engine:
            self.backend.renew_pool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wanted(self) -> list[TableWanted]:
        return wanted_by(self.application, self.engine.get_execution_options())

    def _context_text(self, context: Mapping[str, Any] | None) -> str | None:
        if context is None:
            return None
        limits = self.application.limits
        try:
            text = payload.dumps(payload.primitive(dict(context), limits))
        except (payload.Unencodable, payload.TooDeep) as why:
            raise ValueError(f"the context must be JSON: {why}") from None
        if len(text) > limits.context_bytes:
            raise ValueError(f"the context is {len(text)} bytes of JSON, more than the {limits.context_bytes} allowed")
        return text


def _check_database(database: object, session_factory: object, schema: object, problems: list[str]) -> None:
    if database is not None:
        hint = "; a sessionmaker is given as session_factory=" if callable(database) else ""
        wanted("database", database, (str, URL, Engine), f"a URL or an Engine{hint}", problems)
    if session_factory is not None and not callable(session_factory):
        problems.append(
            f"session_factory: expected a sessionmaker, or what makes a Session, not {shown(session_factory)}"
        )
    if schema is not None:
        wanted("schema", schema, str, "a name, or None", problems)


def _check_numbers(attempts: object, reconnect_for: object, problems: list[str]) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        problems.append(f"attempts: expected a whole number from 1 up, not {shown(attempts)}")
    is_number = isinstance(reconnect_for, (int, float)) and not isinstance(reconnect_for, bool)
    if not is_number or not float(reconnect_for) >= 0:  # type: ignore[arg-type]
        problems.append(f"reconnect_for: expected a number of seconds, 0 or more, not {shown(reconnect_for)}")


def _limits(application: Application) -> list[Limit]:
    return [Limit(each.name, each.concurrency, each.interval) for each in application.queues]


def _engine_of(database: str | URL | Engine | None, factory: Callable[..., Session] | None) -> Engine:
    if isinstance(database, Engine):
        return database
    if database is not None:
        return make_engine(database)
    bound = getattr(factory, "kw", {}).get("bind")
    if isinstance(bound, Engine):
        return bound
    raise ConfigurationError(["give a database: a URL, an Engine, or a session_factory that is bound to an Engine"])


def _name(what: str, value: object) -> str | None:
    if value is None or isinstance(value, UUID):
        return None if value is None else str(value)
    if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and value.isprintable():
        return value
    raise ValueError(f"{what} must be 1 to {_NAME_LENGTH} printable characters, or None")
