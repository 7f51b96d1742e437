"""Server and its connections: waitress, with deadlines that a client who drips cannot put off. Made by `server.serve`.

What waitress bounds is the time between two bytes and the size of the whole; an attacker sends a byte now and then, or
little that costs much to read. Here a request has one deadline, so does its answer; whoever has kept a place longest
without being served makes room when all are taken; and liveness has a thread of its own.
"""

from __future__ import annotations

import time
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, Task, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, Error, InternalServerError

from actionbus.adapters.http.access import log_request
from actionbus.adapters.http.health import live

_MOST_HEADERS: Final = 200
_LONGEST_LINE: Final = 8_192
"""Of what stands between the chunks of a body, and after the last. waitress would keep it whole and search it anew with
every piece that comes."""
_MOST_UNTAKEN: Final = 1_048_576
"""Bytes of answers that a client may leave behind and still ask for more."""
_ROOM: Final = 10
"""Places below the limit, at which waitress stops to accept."""
_SHUTDOWN_S: Final = 1


class _TooSlow(Error):  # type: ignore[misc]
    code, reason = 408, "Request Timeout"


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    completed: bool

    def parse_header(self, header_plus: bytes) -> None:
        if header_plus.count(b"\r\n") > _MOST_HEADERS:
            raise ParsingError(f"more than {_MOST_HEADERS} headers")
        super().parse_header(header_plus)

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        between = max(len(getattr(self.body_rcv, name, b"")) for name in ("control_line", "trailer"))
        if between > _LONGEST_LINE and not self.completed:
            self.error, self.completed = BadRequest("what stands between chunks is too long"), True
        return consumed


class _Live(Task):  # type: ignore[misc]
    """Says that the process lives, without asking the application."""

    complete = True

    def execute(self) -> None:
        answer = live()
        self.status, self.content_length = f"{answer.status} OK", len(answer.body)
        self.response_headers += [("Content-Type", answer.content_type), *answer.headers.items()]
        if self.request.command != "HEAD":
            self.write(answer.body)


class _Unreadable(ErrorTask):  # type: ignore[misc]
    """The answer to what cannot be read as a request, which no application sees: so it is logged here. It is the answer
    as well for an application that raised, whose request is logged already."""

    def execute(self) -> None:
        super().execute()
        request = self.request
        if isinstance(request.error, InternalServerError):
            return
        method, path = getattr(request, "command", "-"), getattr(request, "path", "-")
        log_request(method, path, request.error.code, time.time() - self.start_time, self.channel.addr[0])


class _Application(WSGITask):  # type: ignore[misc]
    def execute(self) -> None:
        """As waitress does, which answers 500 to an Exception, but to a SystemExit nothing."""
        try:
            super().execute()
        except Exception:
            raise
        except BaseException as error:
            raise RuntimeError(f"the application raised {type(error).__name__}") from error


class Connection(HTTPChannel):  # type: ignore[misc]
    """One client's connection, which says how long it has been waited for."""

    parser_class = _Parser
    error_task_class = _Unreadable
    request: Any
    requests: list[Any]

    def __init__(self, server: Server, *rest: Any, **options: Any) -> None:
        self.since = self.served_at = time.monotonic()
        """Since when a request is being read, or an answer is there to be taken; when the server last wrote to it."""
        super().__init__(server, *rest, **options)

    def task_class(self, channel: Connection, request: Any) -> Task:
        """What serves a request: liveness apart from all others."""
        return (_Live if self.server.is_liveness(request) else _Application)(channel, request)

    def received(self, data: bytes) -> bool:
        """Note when a request begins."""
        if self.request is None:
            self.since = time.monotonic()
        return bool(super().received(data))

    def write_soon(self, data: Any) -> int:
        """Note since when there is something to be taken."""
        self.served_at = time.monotonic()
        if not self.total_outbufs_len:
            self.since = self.served_at
        return int(super().write_soon(data))

    def service(self) -> None:
        """Serve the next request, unless the client takes no answers: waitress would let the thread wait for him."""
        if self.total_outbufs_len > _MOST_UNTAKEN:
            self._give_up()
            return
        try:
            super().service()
        except BaseException:
            self._give_up()  # else nobody would ever serve it again, nor close it
            raise

    def _give_up(self) -> None:
        with self.requests_lock:
            for request in self.requests:
                request.close()
            self.requests, self.close_when_flushed = [], True
        self.server.pull_trigger()

    def end_if_slow(self, deadline: float) -> None:
        """Answer a request that is not whole by now, or give up an answer that is not taken. Called by the loop."""
        if self.since > deadline:
            return
        if self.total_outbufs_len:
            self.server.close_soon(self)
            return
        if self.requests:
            return
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None:
                return
            request.error, request.completed = _TooSlow("the request was not whole in time"), True
            self.requests.append(request)
        self.server.add_task(self)


class Server(TcpWSGIServer):  # type: ignore[misc]
    """waitress's server for one address; `options` are its adjustments."""

    channel_class = Connection

    def __init__(self, app: Any, *, liveness: str | None, **options: Any) -> None:
        self._liveness = liveness
        self._for_liveness = ThreadedTaskDispatcher()
        self._for_liveness.set_thread_count(1)
        self._to_close: list[Connection] = []
        super().__init__(app, {}, **options)

    def is_liveness(self, request: Any) -> bool:
        """Whether it asks if the process lives."""
        if self._liveness is None or request.error:
            return False
        return request.path == self._liveness and request.command in ("GET", "HEAD")

    def add_task(self, task: Connection) -> None:
        """Let a thread serve a connection's first request."""
        asks_for_life = task.requests and self.is_liveness(task.requests[0])
        (self._for_liveness if asks_for_life else self.task_dispatcher).add_task(task)

    def maintenance(self, now: float) -> None:
        """The deadlines first, so that who stalls is answered; then what waitress does to idle connections."""
        deadline = time.monotonic() - self.adj.channel_timeout
        for connection in list(self.active_channels.values()):
            connection.end_if_slow(deadline)
        super().maintenance(now)

    def handle_accept(self) -> None:
        """Make room if all places are taken, at the cost of whoever was not served for longest."""
        super().handle_accept()
        if len(self.active_channels) > self.adj.connection_limit - _ROOM:
            waiting = [each for each in self.active_channels.values() if not each.requests]
            if waiting:
                self.close_soon(min(waiting, key=lambda each: each.served_at))

    def close_soon(self, connection: Connection) -> None:
        """Close it after this turn of the loop, in which its number might pass to another and its events with it."""
        self._to_close.append(connection)

    def turn(self, seconds: float) -> None:
        """Look once at all connections, for so long at most."""
        self.asyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)
        while self._to_close:
            self._to_close.pop().handle_close()

    def shut_down(self) -> None:
        """Let go of threads and connections."""
        for dispatcher in (self._for_liveness, self.task_dispatcher):
            dispatcher.shutdown(timeout=_SHUTDOWN_S)
        self.asyncore.close_all(self._map)
