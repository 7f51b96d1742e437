"""Answers of Elasticsearch that a proxy cuts off, empties or replaces: the store is waited for, and nothing is believed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from actionbus.adapters.elasticsearch import ElasticsearchStore
from actionbus.projections import StoreUnavailable
from actionbus.projections.search import Search
from actionbus.projections.store import Store, Write

WHOLE = (
    b'{"errors":false,"items":[{"index":{"status":201}}],"docs":[{"_id":"a","found":true,"_source":{"secret":"x"}}]}'
)


class Broken(BaseHTTPRequestHandler):
    """Greets as Elasticsearch does, and then answers as `mode` says."""

    protocol_version = "HTTP/1.1"
    mode: ClassVar[str] = ""

    def do_GET(self) -> None:
        """Whatever is asked."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole, kind, is_it = WHOLE, "application/json", True
        if not self.path.startswith("/_cluster/health"):
            if self.mode == "empty":
                whole = b""
            elif self.mode == "half":
                whole = WHOLE[: len(WHOLE) // 2]
            elif self.mode == "a page":
                whole, kind, is_it = b"<html>one moment</html>", "text/html", False
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if is_it:
            self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if self.mode == "cut off" and not self.path.startswith("/_cluster/health"):
            self.wfile.write(WHOLE[: len(WHOLE) // 2])
            self.close_connection = True
        else:
            self.wfile.write(whole)

    def do_POST(self) -> None:
        """The same."""
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def broken_store() -> Iterator[ElasticsearchStore]:
    """A store whose server is Broken."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    store = ElasticsearchStore(f"http://127.0.0.1:{server.server_port}", timeout=10)
    yield store
    store.close()
    server.shutdown()
    server.server_close()
    thread.join()


CALLS: dict[str, Callable[[Store], object]] = {
    "aliased": lambda store: store.aliased("notes"),
    "info": lambda store: store.info("notes-v1-actionbus-x"),
    "lineage": lambda store: store.lineage("notes-v1-actionbus-x"),
    "get_many": lambda store: store.get_many("notes-v1-actionbus-x", ["a"]),
    "write_many": lambda store: store.write_many("notes-v1-actionbus-x", [Write("a", 1, b"{}")]),
    "totals": lambda store: store.totals("notes-v1-actionbus-x"),
    "search": lambda store: store.search("notes", Search("x")),
}


@pytest.mark.parametrize("mode", ["empty", "half", "a page", "cut off"])
def test_an_answer_that_is_none_is_waited_for_and_tells_nothing_of_what_was_in_it(
    broken_store: ElasticsearchStore, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "mode", mode)
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable) as caught:
            call(broken_store)
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 300
