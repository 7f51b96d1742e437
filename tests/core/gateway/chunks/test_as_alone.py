"""Each action of a chunk is recorded, fails and leaves rows as if it had run alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import ActionInProgress, Bus, Middleware, Misuse, Outcome
from actionbus.core.gateway import chunk
from tests.conftest import elsewhere, query
from tests.core.gateway.chunks.shelf import Post, make_shelf, outcomes, put, raising, transactions

Functions = dict[str, Callable[[Any], Any]]


def nesting(handler: Any) -> Any:
    number = handler.args.id
    handler.runner.execute("put", {"id": number + 100})
    try:
        handler.runner.execute("put", {"id": number, "name": "taken twice"})
    except Exception:
        handler.session.execute(text("UPDATE things SET n = 7 WHERE id = :id"), {"id": number})
    handler.runner.execute("put", {"id": number + 200})


def catching(handler: Any) -> None:
    """A handler that goes on after an error of the database, and one of SQLAlchemy's savepoints left open."""
    try:
        with handler.session.begin_nested():
            handler.session.execute(text("INSERT INTO things (id, name, n) VALUES (1, 'again', 0)"))
    except Exception:
        handler.session.execute(text("UPDATE things SET n = 8 WHERE id = :id"), {"id": handler.args.id})
    handler.session.begin_nested()
    handler.session.execute(text("UPDATE things SET n = n + 1 WHERE id = :id"), {"id": handler.args.id})


def breaking(handler: Any) -> None:
    """A handler that hides a failed flush, after which nothing of it can be kept."""
    try:
        handler.session.execute(text("INSERT INTO things (id, name, n) VALUES (1, 'again', 0)"))
    except Exception:
        return


MANY: list[Any] = [
    put(1),
    put(2, "raising"),
    put(3, "nesting"),
    put(13),
    put(-1),
    put(1, name="the key is taken"),
    ("put", {"id": "x"}),
    ("no such", {"a": 1}),
    ("put", None),
    ("put", "no mapping"),
    put(4, pin="s3cret"),
    put(5, "catching"),
    put(6, "breaking"),
    put(7, name="\x00"),
    ("serially", {"id": 1}),
    ("send", {"to": "ann"}),
    put(8),
    ("put", {"id": 9}, "key"),
    ("put", {"id": 9}, "key"),
    ("put", {"id": 10}, "key"),
    put(11),
    put(12, name='it\'s "a" \\ \\u0041 \n {0} %s :id é \U0001f389'),
    ("put", {"id": 2, "then": "raising"}, "failed"),
    ("put", {"id": 2, "then": "raising"}, "failed"),
]


def told(bus: Bus) -> list[Any]:
    """The journal, action by action: what does not depend on when and in what transaction it ran."""
    found = []
    everything = list(bus.journal.read(kind="submitted"))
    ordered = [
        each
        for outer in everything
        if outer.cause_id is None
        for each in (outer, *(inner for inner in everything if inner.cause_id == outer.action_id))
    ]
    assert len(ordered) == len(everything)
    for submitted in ordered:
        outcome = bus.journal.outcome(submitted.action_id)
        assert outcome is not None
        error = {name: each for name, each in (outcome.error or {}).items() if name in ("type", "errors", "sqlstate")}
        found.append(
            (
                submitted.action,
                submitted.arguments,
                submitted.actor,
                submitted.context,
                submitted.handler_version,
                submitted.idempotency_key,
                submitted.correlation_id == str(submitted.cause_id or submitted.action_id),
                outcome.status,
                outcome.arguments,
                outcome.result,
                error,
                outcome.calls,
                sorted(
                    (each.table, str(each.key), each.operation, str(each.before), str(each.after))
                    for each in outcome.touched
                ),
            )
        )
    return found


@pytest.mark.parametrize("longest", [chunk.LONGEST_S, 0.0])
def test_it_tells_the_same_as_one_by_one(
    url: URL, functions: Functions, monkeypatch: pytest.MonkeyPatch, longest: float, request: pytest.FixtureRequest
) -> None:
    functions |= {"raising": raising, "nesting": nesting, "catching": catching, "breaking": breaking}
    monkeypatch.setattr(chunk, "LONGEST_S", longest)
    with Bus(make_shelf(), url) as bus:
        bus.create()
        given = bus.runner("ann", context={"a": 1}).execute_many(MANY)
        together, rows = told(bus), query(url, "SELECT id, name, n FROM things ORDER BY id")
        seen = {each.action_id: each for each in given}
        assert len(given) == len(MANY)
        assert all(bus.journal.outcome(each).status == seen[each].status for each in seen)  # type: ignore[union-attr]
        assert [each.repeated for each in given].count(True) == 2
    other = (
        request.getfixturevalue("server").database()
        if url.get_backend_name() != "sqlite"
        else url.set(database=f"{url.database}-alone")
    )
    Post.sent.clear()
    with Bus(make_shelf(), other) as bus:
        bus.create()
        runner = bus.runner("ann", context={"a": 1})
        alone: list[Outcome | None] = []
        for name, arguments, *key in MANY:
            try:
                alone.append(runner.execute(name, arguments, idempotency_key=key[0] if key else None))
            except Exception:
                alone.append(None)
        assert sorted(told(bus), key=repr) == sorted(together, key=repr)
        assert query(other, "SELECT id, name, n FROM things ORDER BY id") == rows
    if url.get_backend_name() != "sqlite":
        request.getfixturevalue("server").drop(other)
    for one, other_one in zip(given, alone, strict=True):
        if other_one is None:
            assert one.status != "succeeded"
        else:
            assert (one.status, one.result, one.repeated) == ("succeeded", other_one.result, other_one.repeated)


def test_what_is_submitted_is_committed_before_anything_is_validated(shelf: Bus, functions: Functions) -> None:
    counts = []

    def look(handler: Any) -> None:
        sql = "SELECT count(*) FROM journal WHERE kind = 'submitted'"
        counts.append(elsewhere(lambda: query(shelf.engine.url, sql)))

    functions["look"] = look
    shelf.runner().execute_many([put(-1), put(1, "look"), put(2, "look"), put(3)])
    assert counts == [[(4,)], [(4,)]]


def test_it_is_one_transaction_whose_outcomes_stand_in_the_order_of_the_actions(
    postgres_shelf: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "LONGEST_S", 3600.0)
    given = postgres_shelf.runner().execute_many([put(number) for number in range(100, 1300)])
    assert [each.result["id"] for each in given] == list(range(100, 1300))
    assert [each.position for each in given] == sorted(each.position for each in given)
    assert transactions(postgres_shelf) == 3
    submitted = {record.xid for record in postgres_shelf.journal.read(kind="submitted") if record.action}
    assert len(submitted) == 3


def test_a_failure_costs_that_action_alone_and_no_other_transaction(
    postgres_shelf: Bus, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "LONGEST_S", 3600.0)
    functions["raising"] = raising
    given = postgres_shelf.runner().execute_many(
        [put(n, "raising" if n % 3 == 1 else "nothing") for n in range(99, 129)]
    )
    assert [each.status for each in given] == ["succeeded", "failed", "succeeded"] * 10
    assert transactions(postgres_shelf) == 1
    assert query(postgres_shelf.engine.url, "SELECT count(*) FROM things") == [(20,)]


def test_one_with_outside_dependencies_runs_alone_in_its_place_and_asks_once(shelf: Bus, functions: Functions) -> None:
    given = shelf.runner().execute_many([put(1), put(2), ("send", {"to": "ann"}), put(1, name="taken"), put(4)])
    assert [each.status for each in given] == ["succeeded"] * 3 + ["failed", "succeeded"]
    assert Post.sent == ["ann"]
    assert [record.action for record in shelf.journal.read() if record.kind != "bypass"] == ["put"] * 4 + [
        "send"
    ] * 2 + ["put"] * 4


def test_middleware_around_calls_is_around_each(url: URL) -> None:
    class Counting(Middleware):
        seen: list[str] = []

        def around_call(self, call: Any, proceed: Any) -> Any:
            outcome = proceed()
            self.seen.append(f"{call.mode} {outcome.status} {outcome.position > 0}")
            return outcome

    with Bus(make_shelf(middleware=[Counting()]), url) as bus:
        bus.create()
        bus.runner().execute_many([put(1), put(2)])
    assert Counting.seen == ["execute succeeded True"] * 2


def test_it_takes_no_more_than_a_chunk_ahead(shelf: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "MOST", 10)
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield put(taken + 100)

    given = shelf.runner().execute_each(endless())
    assert [next(given).result["id"] for _ in range(15)] == list(range(101, 116))
    assert taken == 20
    given.close()  # type: ignore[attr-defined]
    assert len(outcomes(shelf)) == 20


def test_what_the_iterable_raises_comes_after_what_it_gave(shelf: Bus) -> None:
    def broken() -> Any:
        yield put(1)
        yield put(2)
        raise OSError("the file ends here")

    given = shelf.runner().execute_each(broken())
    assert [next(given).status, next(given).status] == ["succeeded"] * 2
    with pytest.raises(OSError, match="ends here"):
        next(given)
    with pytest.raises(Misuse, match="tuples"):
        shelf.runner().execute_many([put(3), "put"])  # type: ignore[list-item]
    assert len(outcomes(shelf)) == 3


def test_a_key_whose_action_has_no_outcome_yet_is_told_in_its_place(postgres_shelf: Bus, functions: Functions) -> None:
    """On PostgreSQL: on SQLite the first one keeps all others out."""
    shelf = postgres_shelf
    answers: list[Any] = []

    def again(handler: Any) -> None:
        def run() -> None:
            given = shelf.runner("ann").execute_each([put(1), ("put", {"id": 2, "then": "again"}, "key"), put(3)])
            answers.append(next(given).status)
            with pytest.raises(ActionInProgress):
                next(given)

        elsewhere(run)

    functions["again"] = again
    assert shelf.runner("ann").execute("put", {"id": 2, "then": "again"}, idempotency_key="key").status == "succeeded"
    assert answers == ["succeeded"]
    assert [record.status for record in outcomes(shelf)] == ["succeeded"] * 3
