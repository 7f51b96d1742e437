"""A row whose key holds any sign is found by the command line and over HTTP as by the history itself."""

from __future__ import annotations

import json

from sqlalchemy.engine import URL

from tests.adapters.http.journal.reading import shop
from tests.core.history.told.byhand import HOSTILE, Book, with_hostile_keys
from tests.helpers import Run


def test_whoever_asks_is_answered_alike(url: URL, run: Run) -> None:
    book = with_hostile_keys(Book(url))
    web = shop(url)
    try:
        for number, code in enumerate(HOSTILE):
            told = run("history", "rows", "goods", "--json", "--", code).stdout
            assert json.loads(told)["after"] == {"code": code, "price": str(number)}
            assert len(web.get("/journal", touching=f"goods:{code}")["records"]) == 1
    finally:
        web.bus.close()
        book.close()
