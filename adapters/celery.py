"""Celery as the broker of `execute_async` and as the worker that runs what was queued. Needs `actionbus[celery]`.

    bus = Bus(app, url, broker=CeleryBroker("redis://localhost"))
    serve_tasks(bus.broker.app, bus)      # in a worker of your own; `actionbus worker` does this and dispatches too

A message says that an action of a queue is due. Which is to be run next, and whether any may be, is decided in the
database, by the same claim as without a broker; so messages may come early, late, twice or forged without harm.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from actionbus.core import Broker, BrokerUnavailable, Bus, Message
from actionbus.core.declare.queue import DEFAULT_QUEUE
from actionbus.core.queueing.claiming import run_next
from actionbus.core.queueing.dispatcher import Dispatcher
from actionbus.core.queueing.limits import Process

try:
    from celery import Celery
    from celery.signals import worker_process_init, worker_ready
    from kombu.exceptions import KombuError, OperationalError

    from actionbus.adapters.celery_messages import TASK, OnlyIds
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(
        "a broker needs the extra: pip install 'actionbus[celery]'; without a broker, the database wakes workers"
    ) from error

log = logging.getLogger("actionbus")
_AWAY_S: Final = 5.0
"""How long a broker that did not answer is not asked again, so that callers do not wait for it one by one."""
_CONNECT_S: Final = 2.0
_DISPATCHER_ENDS_S: Final = 5.0
"""How long a worker that stops waits for a message that is being sent."""


class CeleryBroker(Broker):
    """Sends messages through Celery. `broker` is a URL, or a Celery application of yours, whose settings are kept.

    `redeliver_after` and `attempts` are as in `Broker`.
    """

    def __init__(self, broker: str | Celery, *, redeliver_after: float = 60.0, attempts: int = 10) -> None:
        self.app: Celery = broker if isinstance(broker, Celery) else make_celery(broker)
        self.redeliver_after, self.attempts = redeliver_after, attempts
        self._away_until = 0.0

    def publish(self, message: Message) -> None:
        if time.monotonic() < self._away_until:
            raise BrokerUnavailable("the broker did not answer a moment ago")
        known = str(message.action_id)
        try:
            self.app.send_task(
                TASK, kwargs={"action_id": known}, queue=message.queue, task_id=known, retry=False, ignore_result=True
            )
        except (OperationalError, KombuError, OSError) as error:
            self._away_until = time.monotonic() + _AWAY_S
            raise BrokerUnavailable(f"the broker did not take the message ({type(error).__name__})") from error


def make_celery(broker: str) -> Celery:
    """A Celery application with the settings that queued actions want. Raises ValueError for an unusable one."""
    _refuse_unusable(broker)
    app = Celery("actionbus", broker=broker)
    app.amqp.Connection = OnlyIds
    app.conf.update(
        # Else whoever can write to the broker can stop workers, and keep an action from being run.
        worker_enable_remote_control=False,
        task_default_queue=DEFAULT_QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # An error that Redis answers, such as being out of memory, is no reason to end for good.
        broker_channel_error_retry=True,
        broker_connection_timeout=_CONNECT_S,
        broker_transport_options=_transport_options(broker),
    )
    return app


def _refuse_unusable(broker: str) -> None:
    """What kombu would find out when it connects, in a worker that runs already. Connects to nothing."""
    for url in broker.split(";"):  # the first that answers is used
        scheme, separator, _ = url.partition("://")
        try:
            known = bool(separator) and _is_readable(OnlyIds(url))  # type: ignore[no-untyped-call]
        except (KeyError, ValueError, TypeError):  # TypeError: an option that kombu does not know
            known = False
        except (ImportError, NameError) as error:  # NameError: some of kombu's transports find out so
            raise ValueError(f"a broker at {scheme[:40]}:// needs what is not installed: {error}") from None
        if not known:
            # Not more of the URL: it may hold a password.
            raise ValueError(
                f"{scheme[:40] if separator else ''}://… is not a broker's URL (scheme, host, port or options); "
                "expected such as redis://localhost:6379/0"
            )


def _is_readable(connection: OnlyIds) -> bool:
    redis = connection.transport.driver_type == "redis"
    number = str(connection.virtual_host or "").strip("/")
    return not redis or connection.uri_prefix is not None or not number or number.isdigit()


def _transport_options(broker: str) -> dict[str, Any]:
    if not broker.startswith(("redis", "rediss")):
        return {}
    return {
        "socket_connect_timeout": _CONNECT_S,
        "socket_timeout": 5.0,
        "socket_keepalive": True,
        "max_retries": 1,
        # What a dead worker had taken is sent again by the dispatcher; a second memory of it in Redis is one more thing
        # to read that others may have written.
        "ack_emulation": False,
    }


def serve_tasks(app: Celery, bus: Bus) -> None:
    """Let workers of `app` run the actions of `bus`.

    A message is acknowledged once its action has an outcome or was handed back, and rejected to the broker if the
    worker's process dies.
    """

    @app.task(name=TASK, bind=True, acks_late=True, reject_on_worker_lost=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def run(task: Any, action_id: str = "", **shown: Any) -> None:
        if not _is_id(action_id):
            log.error("a message was dropped that names no action")
            return
        # Which action is run is decided by the claim, as for every worker: the message says that there may be one.
        queue = (task.request.delivery_info or {}).get("routing_key") or DEFAULT_QUEUE
        name = f"{task.request.hostname or socket.gethostname()}/{os.getpid()}"
        try:
            run_next(bus.services, name, [queue])
        except Exception as error:
            # Its outcome is in the journal already, and a worker goes on.
            log.info("a queued action raised %s: %s", type(error).__name__, error)


def _is_id(text: object) -> bool:
    try:
        UUID(str(text))
    except ValueError:
        return False
    return True


def _is_worker_process(**_: Any) -> None:
    Process.is_worker = True


def work(bus: Bus, queues: Sequence[str], concurrency: int, *, log_level: str = "INFO") -> int:
    """Run a worker, and a dispatcher beside it, until SIGTERM or Ctrl-C; the exit status.

    It then takes no more messages and ends what it runs; a second signal ends it at once, and what it ran is run again.
    """
    broker = bus.broker
    assert isinstance(broker, CeleryBroker)
    serve_tasks(broker.app, bus)
    stop = threading.Event()
    dispatcher = threading.Thread(target=Dispatcher(bus).run, args=[stop], name="actionbus dispatcher", daemon=True)

    def begin(**_: Any) -> None:
        dispatcher.start()

    # Not before the pool is forked, so that its processes inherit no thread's locks.
    worker_ready.connect(begin, weak=False)
    worker_process_init.connect(_is_worker_process)  # each runs one action at a time, and is replaced if it dies
    worker = broker.app.Worker(
        hostname=f"actions-{os.getpid()}@{socket.gethostname()}",
        queues=list(queues),
        concurrency=concurrency,
        loglevel=log_level,
        without_gossip=True,
        without_mingle=True,
        optimization="fair",
    )
    try:
        worker.start()
    finally:
        stop.set()
        worker_ready.disconnect(begin)
        if dispatcher.ident is not None:
            dispatcher.join(_DISPATCHER_ENDS_S)
    return int(worker.exitcode or 0)
