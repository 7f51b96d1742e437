"""Connections are cut at any moment: an outcome is told only if it is known."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actionbus import Bus, JournalUnavailable, OutcomeUnknown
from tests.conftest import BusFactory, prepared, query
from tests.helpers import balance, opened
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S


class Proxy:
    """Stands between a client and PostgreSQL, and cuts the connection at the outcome: before or after it got through."""

    def __init__(self, server: str | tuple[str, int], port: int, folder: Path, cut: str) -> None:
        self._server, self._cut = server, cut
        self.cuts = 1
        self._through = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{port}"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            family = socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET
            upstream = socket.socket(family)
            upstream.connect(self._server)
            muted = threading.Event()
            threading.Thread(target=self._forward, args=(client, upstream, muted), daemon=True).start()
            threading.Thread(target=self._answer, args=(upstream, client, muted), daemon=True).start()

    def _forward(self, client: socket.socket, upstream: socket.socket, muted: threading.Event) -> None:
        while data := _received(client):
            if self.cuts and b"EXECUTE actionbus_append" in data and b"COMMIT" in data:
                self.cuts -= 1
                if self._cut == "after":
                    muted.set()
                    upstream.sendall(data)
                    assert self._through.wait(PATIENCE_S)
                break
            upstream.sendall(data)
        for each in (client, upstream):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def _answer(self, upstream: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while (data := _received(upstream)) and not muted.is_set():
                client.sendall(data)
            self._through.set()
            if not muted.is_set():
                client.shutdown(socket.SHUT_RDWR)


def _received(each: socket.socket) -> bytes:
    try:
        return each.recv(65536)
    except OSError:
        return b""


@contextmanager
def proxied(url: URL, folder: Path, cut: str) -> Iterator[URL]:
    """The database's URL by way of a proxy."""
    host = url.query.get("host", url.host)
    upstream: Any = f"{host}/.s.PGSQL.{url.port or 5432}" if str(host).startswith("/") else (host, url.port or 5432)
    proxy = Proxy(upstream, url.port or 5432, folder, cut)
    yield url.set(host="").update_query_dict({"host": str(folder)})
    proxy.close()


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path a socket address can hold."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ab") as folder:
        yield Path(folder)


def test_a_connection_lost_after_commit_was_sent_is_a_success(postgres_url: URL, short_folder: Path) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as direct:
        opened(direct, 1)
    with proxied(postgres_url, short_folder, "after") as url, Bus(make_application(), url) as bus:
        outcome = bus.execute("deposit", {"id": 1, "amount": 5})
        assert (outcome.status, outcome.result) == ("succeeded", {"balance": 5})
        assert balance(bus, 1) == 5
        assert [r.status for r in bus.journal.history(outcome.action_id)] == [None, "succeeded"]


def test_a_connection_lost_before_commit_is_a_failure_that_is_told(postgres_url: URL, short_folder: Path) -> None:
    prepared(postgres_url)
    with Bus(make_application(), postgres_url) as direct:
        opened(direct, 1)
    with proxied(postgres_url, short_folder, "before") as url, Bus(make_application(), url) as bus:
        with pytest.raises(DBAPIError, match="closed"):
            bus.execute("deposit", {"id": 1, "amount": 5})
        assert balance(bus, 1) == 0
        record = bus.journal.tail(1)[0]
        assert (record.action, record.status) == ("deposit", "failed")


def test_a_database_that_does_not_come_back_leaves_the_outcome_unknown(
    postgres_url: URL, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(postgres_url)
    with proxied(postgres_url, short_folder, "never") as url:
        bus = Bus(make_application(), url, reconnect_for=0.3)

        def vanish(handler: Any) -> None:
            next(short_folder.glob(".s.PGSQL.*")).unlink()
            handler.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        monkeypatch.setattr(CallBack, "function", vanish)
        with pytest.raises(OutcomeUnknown) as caught:
            bus.execute("call_back")
        with pytest.raises(JournalUnavailable, match="nothing was run"):
            bus.execute("call_back")
        bus.close()
    with Bus(make_application(), postgres_url) as direct:
        assert direct.journal.get(caught.value.action_id).kind == "submitted"  # type: ignore[arg-type,union-attr]
        assert direct.recover(timedelta(0)).interrupted == [caught.value.action_id]


def test_a_stale_pooled_connection_is_replaced_without_running_twice(
    make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    bus = opened(make_postgres_bus(), 1)
    query(
        postgres_url,
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert bus.execute("deposit", {"id": 1}).result == {"balance": 1}
    assert len(list(bus.journal.read(action="deposit"))) == 2


def test_a_backend_terminated_inside_a_handler_rolls_back(
    make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = opened(make_postgres_bus(), 1)

    def die(handler: Any) -> None:
        handler.session.execute(text("UPDATE accounts SET balance = 7"))
        handler.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(CallBack, "function", die)
    with pytest.raises(DBAPIError):
        bus.execute("call_back")
    assert bus.journal.tail(1)[0].status == "failed"
    assert balance(bus, 1) == 0
