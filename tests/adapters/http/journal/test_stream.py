"""The live tail: every record once and in order, through restarts of server and client; places are given back."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.http import journal_events
from actionbus.adapters.http.access import STOPPING
from tests.adapters.http.journal.reading import Web
from tests.adapters.http.served import Served
from tests.conftest import TORTURE, prepared
from tests.shop.app import make_application
from tests.waiting import PATIENCE_S, eventually


@contextmanager
def streamed(web: Web, who: str = "officer", last: int | None = None, **query: Any) -> Iterator[Iterator[bytes]]:
    """The events of one stream, which stops when this ends."""
    stopping = threading.Event()
    headers = {"X-Actor": who} | ({"Last-Event-ID": str(last)} if last is not None else {})
    response = web.app.test_client().get(
        "/journal/stream", query_string=query, headers=headers, environ_overrides={STOPPING: stopping}, buffered=False
    )
    assert (response.status_code, response.mimetype) == (200, "text/event-stream"), response.text
    yield iter(response.iter_encoded())
    stopping.set()
    response.close()


def records(events: Iterator[bytes], count: int) -> list[Any]:
    """The next so many records."""
    found: list[Any] = []
    while len(found) < count:
        lines = next(events).decode().splitlines()
        found += [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return found


def test_what_is_done_meanwhile_comes_once_and_in_order(told: Web) -> None:
    with streamed(told, kind=["submitted", "outcome"]) as events:
        assert next(events).startswith(b"retry: ")
        end = told.bus.journal.settled()
        for _ in range(3):
            told.bus.execute("deposit", {"id": 1}, actor="dan")
        assert [each["position"] for each in records(events, 6)] == list(range(end + 1, end + 7))


def test_one_goes_on_where_one_left_off(told: Web) -> None:
    there = [record.position for record in told.bus.journal.read(kind=("outcome", "bypass"))]
    with streamed(told, last=0) as events:
        assert [each["position"] for each in records(events, len(there))] == there
    for place in (3, len(there) - 1):
        with streamed(told, last=there[place - 1], after=0) as events:
            assert [each["position"] for each in records(events, len(there) - place)] == there[place:]


def test_filters_and_masks_hold_for_streams(told: Web) -> None:
    with streamed(told, "auditor", after=0, actor="bob") as events:
        found = records(events, 5)
    assert {each["actor"] for each in found} == {"bob"}
    assert found[0]["arguments"]["note"] == {"$masked": True}
    for who in ("clerk", "ann"):
        told.get("/journal/stream", who, expected=403)


def test_a_place_is_told_where_nothing_is_wanted(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_events, "_SIGN_S", 0.0)
    with streamed(told, actor="nobody's") as events:
        next(events)
        told.bus.execute("deposit", {"id": 1}, actor="dan")
        end = told.bus.journal.settled()
        eventually(lambda: next(events) == f"id: {end}\n\n".encode(), "the id of the end is told")


def test_places_are_few_and_given_back(told: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a stream is read to its end, left, or never begun, as by HEAD."""
    api = told.app.extensions["actionbus"].api
    free = api.streams._free
    before = free._value
    with streamed(told), streamed(told):
        assert told.get("/journal/stream", expected=503)["detail"]
        told.get("/journal")
        with api.waits.one():
            pass  # those who wait for what they wrote have places of their own
    assert free._value == before
    with streamed(told) as events:
        next(events)
        assert free._value == before - 1
    assert free._value == before
    told.app.test_client().head("/journal/stream", headers={"X-Actor": "officer"}).close()
    assert free._value == before
    monkeypatch.setattr(journal_events, "TURN_S", 0.0)
    with streamed(told) as events:
        assert len(list(events)) == 1
        assert free._value == before


def test_hostile(told: Web) -> None:
    client = told.app.test_client()
    for last in ("x", "-1", "1.5", "9" * 30, "999999999", "1, 2", "1\t"):
        headers = {"X-Actor": "officer", "Last-Event-ID": last}
        assert client.get("/journal/stream", headers=headers).status_code == 400, last
    for query in ("after=x", "after=", "after=999999999", "until=2026-01-01", "limit=1", "cursor=n1", "status=x"):
        told.get(f"/journal/stream?{query}", expected=400)


class Following:
    """A client that follows, and comes back after whatever ends its stream, as a browser does."""

    def __init__(self) -> None:
        self.port = 0
        self.last = "0"
        self.positions: list[int] = []
        self._enough = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        while not self._enough.is_set():
            try:
                self._stream()
            except (OSError, http.client.HTTPException):
                self._enough.wait(0.02)

    def _stream(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self._connection.request(
            "GET", "/journal/stream?kind=outcome&kind=submitted&kind=bypass", headers={"Last-Event-ID": self.last}
        )
        response = self._connection.getresponse()
        place = ""
        while line := response.readline().decode():
            if not line.endswith("\n"):
                return  # cut off within a line
            if line.startswith("id: "):
                place = line[4:].strip()
            elif line.startswith("data: "):
                self.positions.append(json.loads(line[6:])["position"])
            elif line == "\n":
                self.last = place or self.last

    def cut(self) -> None:
        """Lose the connection."""
        if (there := self._connection) is not None and there.sock is not None:
            there.sock.shutdown(2)

    def end(self) -> None:
        self._enough.set()
        self.cut()
        self.thread.join()


@pytest.mark.early
def test_through_restarts_of_server_and_client_nothing_is_missed_or_comes_twice(url: URL, tmp_path: Path) -> None:
    prepared(url)
    stop, following = threading.Event(), Following()
    with Bus(make_application(), url) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})

        def write() -> None:
            while not stop.is_set():
                bus.execute("deposit", {"id": 1}, actor="bob")

        writer = threading.Thread(target=write)
        writer.start()
        server: Served | None = None
        try:
            for turn in range(6 if TORTURE else 2):
                server = Served("tests.adapters.shop_app:app", url, tmp_path / f"log {turn}")
                following.port = server.port
                if turn == 0:
                    following.thread.start()
                for _ in range(2):
                    seen = len(following.positions)
                    eventually(lambda seen=seen: len(following.positions) > seen + 20, "the stream goes on")
                    following.cut()
                server.close()
            server = Served("tests.adapters.shop_app:app", url, tmp_path / "log")
            following.port = server.port
            stop.set()
            writer.join()
            there = [record.position for record in bus.journal.read()]
            eventually(lambda: following.positions[-1:] == there[-1:], "the stream comes to the end")
            assert following.positions == there
        finally:
            stop.set()
            writer.join()
            following.end()
            if server is not None:
                server.close()


def test_a_server_that_stops_does_not_wait_for_its_streams(url: URL, tmp_path: Path) -> None:
    prepared(url)
    server = Served("tests.adapters.shop_app:app", url, tmp_path / "log", more=["--drain", "600"])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.request("GET", "/journal/stream")
    assert connection.getresponse().readline() == b"retry: 500\n"
    server.process.terminate()
    assert server.process.wait(journal_events.TURN_S) == 0
