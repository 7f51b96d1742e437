"""What a worker of ours takes from Redis: of each message the action's id, and nothing else. Used by `adapters.celery`.

Left to itself, kombu ends the worker at an item that is not JSON or has another form, and Celery does what a message's
headers say: limits of time that kill the process which runs it, other tasks to send, times to wait for. So every item
is read here before kombu and Celery see it: one that names an action is replaced by a message made anew, every other is
dropped and logged, without its content. The two methods that this overrides are kombu's own, hence this one place.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from queue import Empty
from typing import Any, Final
from uuid import UUID, uuid4

from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.transport import redis

from actionbus.core.values.payload import dumps

log = logging.getLogger("actionbus")
TASK: Final = "actionbus.run"
_NO_LIMITS: Final = {"eta": None, "expires": None, "retries": 0, "timelimit": [None, None], "ignore_result": True}
_NOTHING_ELSE: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class OnlyIds(Connection):
    """A connection whose Redis transport reads ids alone; any other transport is kombu's."""

    def get_transport_cls(self) -> Any:
        """The class of the transport that the URL names."""
        found = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _Transport if found is redis.Transport else found

    def Pool(self, limit: int | None = None, **options: Any) -> ConnectionPool:  # noqa: N802 - kombu's name
        """As kombu's, whose connections would have kombu's transport again."""
        return _Pool(self, limit, **options)  # type: ignore[no-untyped-call]


class _SharedConnection(PooledConnection, OnlyIds):
    """A connection that senders share."""


class _Pool(ConnectionPool):
    def new(self) -> _SharedConnection:
        return _SharedConnection(self, **dict(self.connection._info(resolve=False)))  # type: ignore[no-untyped-call]


class _Channel(redis.Channel):
    """Uses no key in Redis but the queue's lists, and makes room for these where somebody wrote something else."""

    def _queue_bind(self, *what: Any) -> None:
        """Our messages name their queue, so nobody has to look up which queues an exchange has."""

    def get_table(self, exchange: str) -> list[Any]:
        """Nor is there anything to be looked up."""
        return []

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        self._with_lists([queue], super()._put, queue, message, **options)

    def _size(self, queue: str) -> int:
        return int(self._with_lists([queue], super()._size, queue))

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except self.ResponseError as error:
            self._make_room(self.active_queues, error)
            raise Empty from None
        except (Empty, *self.connection_errors, *self.connection.channel_errors):
            raise
        except Exception as error:
            # Once read as JSON it is in the hands of `_deliver`, so what remains is what json came up with.
            log.error("a message was dropped that is not JSON (%s)", type(error).__name__)
            raise Empty from None

    def _with_lists(self, queues: list[str], do: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return do(*args, **options)
        except self.ResponseError as error:
            self._make_room(queues, error)
        return do(*args, **options)

    def _make_room(self, queues: list[str], error: Exception) -> None:
        """Rename what stands under the names of the queues' lists and is none; it may be somebody's all the same.

        Raises `error` if that is about something else.
        """
        if "WRONGTYPE" not in str(error):
            raise error
        keys = [self._q_for_pri(queue, step) for queue in queues for step in self.priority_steps]  # type: ignore[no-untyped-call]
        with self.conn_or_acquire() as client:
            for key in keys:
                if client.type(key) not in (b"list", b"none"):
                    aside = f"{key}:set-aside-{uuid4()}"
                    client.rename(key, aside)
                    log.error("the key %r in Redis was no list; it is now called %r", key, aside)


class _Transport(redis.Transport):
    Channel = _Channel

    def _deliver(self, message: Any, queue: Any) -> None:
        action_id = named(message)
        if action_id is None:
            log.error("a message on the queue %s was dropped that asks for no action", queue)
        else:
            super()._deliver(message_for(action_id, str(queue)), queue)  # type: ignore[no-untyped-call]


def named(message: Any) -> UUID | None:
    """The action that a message, as it lay in Redis, asks for; None for whatever else lies there."""
    headers = message.get("headers") if isinstance(message, dict) else None
    if not isinstance(headers, dict) or headers.get("task") != TASK or not isinstance(headers.get("id"), str):
        return None
    try:
        return UUID(headers["id"])
    except ValueError:
        return None


def message_for(action_id: UUID, queue: str) -> dict[str, Any]:
    """A message in the second form of Celery's protocol that asks for an action, and for nothing besides."""
    known = str(action_id)
    asked = dumps([[], {"action_id": known}, _NOTHING_ELSE])
    return {
        "body": base64.b64encode(asked.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": TASK, "id": known, "root_id": known, "parent_id": None, "group": None}
        | _NO_LIMITS,
        "properties": {
            "correlation_id": known,
            "body_encoding": "base64",
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid4()),
        },
    }
