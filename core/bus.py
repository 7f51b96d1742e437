"""Bus binds an Application to a database: it builds runners, finds handlers and writes the journal. One per process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from actionbus.core.declare.application import Application
from actionbus.core.declare.middleware import Chain, Middleware
from actionbus.core.declare.queue import BrokerUnavailable, Message, Queue
from actionbus.core.declare.registry import ISOLATION_LEVELS, Registry
from actionbus.core.errors import ConfigurationError, OutcomeUnknown
from actionbus.core.gateway.recovery import Recovered, recover
from actionbus.core.journal import Journal
from actionbus.core.queueing.dispatcher import RETRY_PUBLISHING_S, Dispatcher
from actionbus.core.queueing.queued import run_queued
from actionbus.core.runner import ActionRunner
from actionbus.core.storage.backend import Row, Statement
from actionbus.core.storage.engines import backend_for, make_engine
from actionbus.core.storage.notifier import Announcer
from actionbus.core.storage.runs import Runs
from actionbus.core.values import payload
from actionbus.core.values.caller import Caller
from actionbus.core.values.identifiers import AnyId, action_id_of
from actionbus.core.values.record import Outcome

log = logging.getLogger("actionbus")
_NAME_LENGTH = 200


class Bus:
    """The way to an application's state.

    `database` is a URL (`postgresql+psycopg2://…`, `sqlite:///…`) or an Engine of yours; with `session_factory` it
    may be left out if that is a sessionmaker bound to an engine. `schema` is where the journal's table lives
    (PostgreSQL). `attempts` is how often an action is run before a serialization failure is reported, and
    `reconnect_for` how many seconds a lost database is waited for before a call gives up with OutcomeUnknown. `queue`
    is the broker of `execute_async`, such as `actionbus.celery.CeleryQueue`; `middleware` comes outside of the
    application's own.

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
        queue: Queue | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.application = application
        self.registry = Registry(application)
        if application.isolation not in ISOLATION_LEVELS:
            raise ConfigurationError([f"isolation must be one of: {', '.join(ISOLATION_LEVELS)}"])
        self._owns_engine = not isinstance(database, Engine) and database is not None
        self.engine = _engine_of(database, session_factory)
        """The business database's engine."""
        self.session_factory: Callable[..., Session] = session_factory or Session
        self.backend = backend_for(self.engine, schema, own_engine=self._owns_engine)
        self.journal = Journal(self.backend)
        announced = bool(application.projections) and self.engine.dialect.name == "postgresql"
        self.announcer = Announcer(self.engine) if announced else None
        self.runs = Runs(self.backend)
        self.queue = queue
        if queue is not None:
            self.backend.uses.add("queue")
        self.middleware = Chain([*middleware, *application.middleware])
        self.attempts = max(1, attempts)
        self._reconnect_for = reconnect_for

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
            self,
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

    def run_queued(self, action_id: AnyId, worker: str = "worker") -> Outcome | None:
        """Run an action that was queued, as a worker does; see `queueing.queued`."""
        return run_queued(self, action_id_of(action_id), worker)

    def needed_queue(self) -> Queue:
        """The queue. Raises ConfigurationError saying how to have one."""
        if self.queue is None:
            raise ConfigurationError(
                ["there is no queue for execute_async(); give the Bus one: queue=CeleryQueue('redis://localhost') from "
                 "actionbus.celery, which needs pip install 'actionbus[celery]' (on the command line and in Flask: "
                 "ACTIONBUS_BROKER_URL)"]
            )  # fmt: skip
        return self.queue

    def publish(self, message: Message, connection: Connection) -> str | None:
        """Send a message for a queued action; why not, if the broker does not take it: then it is sent again later.

        Raises nothing: the action is queued, whatever becomes of its message.
        """
        try:
            self.needed_queue().publish(message)
        except Exception as error:
            # Of what was not foreseen the type alone: a broker's URL, which its message may quote, holds a password.
            foreseen = isinstance(error, BrokerUnavailable)
            problem = str(error) if foreseen else f"the broker's library raised {type(error).__name__}"
            log.warning("%s stays queued, action %s: %s", message.action, message.action_id, problem)
            self._send_again(message, connection)
            return problem
        return None

    def _send_again(self, message: Message, connection: Connection) -> None:
        try:
            self.runs.send_again(message.action_id, RETRY_PUBLISHING_S, connection)
        except Exception as error:
            # Its row has a time for the next message already.
            log.warning("the message for action %s is sent again later than it could be: %s", message.action_id, error)

    def recover(self, older_than: timedelta = timedelta(minutes=1)) -> Recovered:
        """Give abandoned actions the outcome `interrupted`, and send messages for queued ones that nobody picked up.

        Safe at any time, see `gateway.recovery`.
        """
        recovered = recover(self.backend, self.journal, self.runs, older_than, self.application.release)
        if self.queue is not None:
            recovered.requeued.extend(Dispatcher(self).send(lost=True))
        return recovered

    def append_after_loss(self, submitted: Row, outcome: Row, also: Sequence[Statement] = ()) -> int | None:
        """Append an outcome once a lost database is back. Raises OutcomeUnknown if it stays away.

        If the old backend has inserted its own outcome and not ended yet, the unique constraint makes this wait for
        it; if it has not inserted it yet, it never can any more. Either way the doubt is over. A crash of the server
        may have taken back the submitted record, whose fsync rides on the outcome's: then it is appended again.
        """
        give_up = time.monotonic() + self._reconnect_for
        pause = 0.05
        self.backend.renew_pool()
        while True:
            try:
                with self.backend.connection() as fresh:
                    return self._append_both(fresh, submitted, outcome, also)
            except Exception as error:
                if time.monotonic() + pause > give_up:
                    raise OutcomeUnknown("the database has not come back") from error
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _append_both(
        self, connection: Connection, submitted: Row, outcome: Row, also: Sequence[Statement]
    ) -> int | None:
        try:
            appended = self.backend.append_submitted(connection, submitted, durable=False)
            if appended is None and self.journal.get(submitted.action_id, connection) is None:
                # Another call took the idempotency key since the crash; this one must not claim it.
                self.backend.append_submitted(connection, submitted._replace(idempotency_key=None), durable=False)
            return self.backend.append_alone(connection, outcome, also)
        except BaseException:
            connection.invalidate()
            raise

    def close(self) -> None:
        """Close the connections of an engine that the Bus made itself; leave one that was handed in alone."""
        if self.announcer:
            self.announcer.close()
        if self._owns_engine:
            self.backend.renew_pool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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
