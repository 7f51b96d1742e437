"""`actionbus history`: without an application, on images that were written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from actionbus.adapters.library.models import Base
from actionbus.core.history.created import LEFT_TO_CALLER
from tests.core.history.told.byhand import Book
from tests.helpers import Run


@pytest.fixture
def told(url: URL, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Book, UUID]]:
    """A price that an action set and that somebody changed past the gateway; a column that came later."""
    monkeypatch.setenv("ACTIONBUS_APP", "no.such:application")
    book = Book(url)
    old = book.shape("items", "id price", withheld="card")
    action = uuid4()
    book.image(old, None, (1, "5"), action=action, xid=8)
    book.image(old, None, (2, "9"), action=action, xid=8)
    book.record(action_id=action, xid=8)
    new = book.shape("items", "id price size", withheld="card")
    mark = book.last()
    book.image(new, (1, "5", None), (1, "50", None), xid=9)
    book.record("bypass", xid=9, after=mark)
    yield book, action
    book.close()


def lines(run: Run, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("history", *arguments, "--json").stdout.splitlines()]


def test_json_lines_have_the_form_that_is_promised(told: tuple[Book, UUID], run: Run) -> None:
    book, action = told
    table = "items" if book.is_sqlite else "public.items"
    unknown = {"$unknown": True}
    rows = sorted(lines(run, "state"), key=lambda each: each["row"]["id"])
    assert rows == [
        {"table": table, "row": {"id": 1, "price": "50", "size": None}},
        {"table": table, "row": {"id": 2, "price": "9", "size": unknown}},
    ]
    blamed = {each["column"]: each for each in lines(run, "blame", "items", "1")}
    assert list(blamed["price"]) == ["column", "value", "position", "action_id", "action", "actor", "at", "bypass"]
    assert (blamed["price"]["value"], blamed["price"]["action"], blamed["price"]["bypass"]) == (
        "50",
        None,
        {"user": "eve"},
    )
    assert (blamed["id"]["action"], blamed["id"]["actor"], blamed["id"]["bypass"]) == ("change", "ann", None)
    (found,) = lines(run, "bisect", "items", "1", "price=50")
    assert (found["position"], found["action"], found["bypass"]) == (2, None, {"user": "eve"})
    assert lines(run, "bisect", "SELECT count(*) FROM items WHERE price = '50'") == [found]
    assert [each["operation"] for each in lines(run, "rows", "items", "1")] == ["insert", "update"]
    assert [each["key"] for each in lines(run, "diff", "1")] == [{"id": 1}]
    assert len(lines(run, "changes", str(action))) == 2


def test_people_see_what_changed_by_whom_and_what_is_not_known(told: tuple[Book, UUID], run: Run) -> None:
    shown = run("history", "state", "--table", "items")
    assert "(unknown)" in shown.stdout
    assert "NULL" in shown.stdout
    assert "never recorded: card" in shown.stderr
    assert "price: 5 → 50" in run("history", "rows", "items", "1").stdout
    assert "user=eve" in run("history", "blame", "items", "1", "price").stdout
    assert "~ " in run("history", "diff", "1", "end").stdout


def test_a_state_is_told_page_by_page(told: tuple[Book, UUID], run: Run) -> None:
    assert [each["row"]["id"] for each in lines(run, "state", "--table", "items", "--limit", "1")] == [1]
    assert [each["row"]["id"] for each in lines(run, "state", "--table", "items", "--after", "1", "-n", "5")] == [2]
    assert lines(run, "state", "--table", "items", "--after", "2") == []
    assert "name it with --table" in run("history", "state", "--limit", "1", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "told_so"),
    [
        (("state", "--table", "item"), "no table 'item' was ever recorded; recorded are:"),
        (("state", "--at", "900"), "there is no position 900 yet; the journal ends at 2"),
        (("state", "--at", "0", "--table", "items"), "nothing is known of it before"),
        (
            ("state", "--at", "noon"),
            "'noon' is not a point in history; give a position, ISO 8601 time, action id, `start` or `end`",
        ),
        (("blame", "items", "7"), "no row 7 of items is on record up to position 2"),
        (("blame", "items", "1", "card"), "no recorded column 'card' (it is withheld)"),
        (("changes", "77"), "the journal has no action 77"),
        (("bisect", "items", "1", "price=6"), "price never had that value"),
    ],
)
def test_what_cannot_be_told_is_said_in_a_sentence(
    told: tuple[Book, UUID], run: Run, arguments: tuple[str, ...], told_so: str
) -> None:
    assert told_so in run("history", *arguments, code=1).stderr


def test_walking_through_history(run: Run) -> None:
    run("db", "upgrade", "--models")
    run("run", "open_account", "--actor", "ann", "--id", "1", "--name", "n1")
    run("run", "deposit", "--actor", "ben", "--id", "1", "--amount", "10")
    words = "next\nnext\ndiff\nstate accounts\nback\njump end\njump nowhere\nstate nothing\nnonsense\nquit\n"
    done = run("history", "walk", stdin=words)
    assert "open_account succeeded by ann" in done.stdout
    assert "balance: 0 → 10" in done.stdout
    assert re.search(r"\((\d+) of \1\)", done.stdout), "the last one"
    assert "is not a point in history" in done.stderr
    assert "no table 'nothing' was ever recorded" in done.stderr


def test_installing_asks_the_models_if_there_are_any(url: URL, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the reference application, whose tokens have a digest that is no image's."""
    monkeypatch.delenv("ACTIONBUS_APP")
    with create_engine(url).begin() as connection:
        Base.metadata.create_all(connection.execution_options(**{LEFT_TO_CALLER: True}))
    monkeypatch.setenv("ACTIONBUS_APP", "actionbus.adapters.library.app:library")
    tables = [table.name for table in Base.metadata.sorted_tables]
    secret = [(t.name, c.name) for t in Base.metadata.sorted_tables for c in t.columns if c.info.get("sensitive")]
    assert secret
    run("history", "install", *tables)
    told = {each["table"].rpartition(".")[2]: each for each in lines(run, "status")}
    for table, column in secret:
        assert column in told[table]["withheld"]
    (table, column) = secret[0]
    refused = run("history", "install", table, "--record", f"{table}.{column}", code=2)
    assert f"{table}.{column} is sensitive by the models" in refused.stderr
    run("history", "status", "--models", "--check")
    assert "no longer recorded" in run("history", "stop", table).stdout
    assert "nothing to do" in run("history", "stop", table).stdout
    run("history", "status", "--models", "--check", code=1)
    run("history", "baseline", table)
    assert column in {e["table"].rpartition(".")[2]: e for e in lines(run, "status")}[table]["withheld"]
    assert "names no column of a table given" in run("history", "install", table, "--record", "x.y", code=2).stderr
