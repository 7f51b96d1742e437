"""What if: a second line of history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.history.shapes import Shape
from actionbus.replay import Replayer, ReplayError
from actionbus.replay.fork import Fork, Forking, InsertedAction
from actionbus.replay.narrow_fork import ANY, NarrowForking, ReadWays
from actionbus.replay.past.history import whole
from tests.conftest import prepared
from tests.replay.conftest import NewSandbox, fill
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        yield bus


def forked(bus: Bus, sandbox: URL, **changes: Any) -> Fork:
    with Replayer(bus.journal, make_application(), sandbox) as replayer:
        return Forking(replayer, **changes).run()


def test_what_if(bus: Bus, new_sandbox: NewSandbox) -> None:
    fill(bus)
    first, big = list(bus.journal.read(action="deposit", kind="outcome"))[:2]
    failed = next(bus.journal.read(action="withdraw", status="failed"))
    skipped = forked(bus, new_sandbox(), skip=[big.action_id])
    ended = {(each.action, each.now.status if each.now else None) for each in skipped.ended}
    assert ("deposit", None) in ended
    assert ("transfer", "failed") in ended, "there is not enough to transfer"
    rows = {(change.table, change.key): change.columns() for change in skipped.rows if change.table == "accounts"}
    assert rows == {("accounts", (1,)): {"balance": (15, 10)}, ("accounts", (2,)): {"balance": (15, 0)}}
    edited = forked(bus, new_sandbox(), edit={first.action_id: {"amount": 2000}})
    assert failed.action_id in {each.action_id for each in edited.ended}, "what failed then succeeds now"
    inserted = forked(
        bus, new_sandbox(), insert=[InsertedAction(big.position, "deposit", {"id": 3, "amount": 1}, "eve")]
    )
    assert [each.action for each in inserted.ended if each.then is None] == ["deposit"]
    with pytest.raises(ReplayError, match="has no argument 'amonut'"):
        forked(bus, new_sandbox(), edit={first.action_id: {"amonut": 1}})


def test_a_fork_stops_where_the_lines_meet(bus: Bus, new_sandbox: NewSandbox) -> None:
    bus.execute("open_account", {"id": 1, "name": "a"})
    one = bus.execute("deposit", {"id": 1, "amount": 3})
    other = bus.execute("withdraw", {"id": 1, "amount": 3})
    for number in range(20):
        bus.execute("open_account", {"id": 100 + number, "name": f"later {number}"})
    skipped = forked(bus, new_sandbox(), skip=[one.action_id, other.action_id])
    assert [change for change in skipped.rows if change.table == "accounts"] == []
    assert (skipped.met_at, skipped.run) == (None, 20), "their entries are missing on to the end"
    same = forked(bus, new_sandbox(), edit={one.action_id: {"amount": 3}})
    assert (same.met_at, same.run) == (one.position, 1)


def test_with_a_fake(bus: Bus, sandbox_url: URL) -> None:
    class Fake:
        def send(self, to: str, text: str) -> str:
            return f"fake to {to}"

    bus.execute("notify", {"to": "ann"})
    (ended,) = forked(bus, sandbox_url, overrides={"mailer": Fake()}).ended
    assert "fake to ann" in str(ended.differences)


def test_a_fork_that_begins_with_nested_actions_has_all_of_them(bus: Bus, sandbox_url: URL) -> None:
    """Their records lie before the outcome at which the other line begins."""
    fill(bus)
    outcome = next(bus.journal.read(action="transfer", kind="outcome"))
    entry = whole(bus.journal, outcome.action_id)
    assert [each.outcome.action for each in entry.nested] == ["withdraw", "deposit"]
    same = forked(bus, sandbox_url, edit={outcome.action_id: dict(entry.submitted.arguments)})
    assert (same.ended, same.rows, same.met_at) == ([], [], outcome.position)


def test_a_write_past_the_gateway_is_on_both_lines(bus: Bus, sandbox_url: URL) -> None:
    fill(bus)
    big = list(bus.journal.read(action="deposit", kind="outcome"))[1]
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = 99 WHERE id = 2")
    bus.execute("withdraw", {"id": 2, "amount": 1})
    skipped = forked(bus, sandbox_url, skip=[big.action_id])
    rows = {change.key: change.columns() for change in skipped.rows if change.table == "accounts"}
    assert rows == {(1,): {"balance": (15, 10)}}, "what somebody set by hand is so on the other line too"


def test_a_row_that_was_set_past_the_gateway_differs_no_more(bus: Bus, sandbox_url: URL) -> None:
    """Although no action wrote it afterwards."""
    fill(bus)
    big = list(bus.journal.read(action="deposit", kind="outcome"))[1]
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = 99 WHERE id = 2")
    bus.execute("draw")
    skipped = forked(bus, sandbox_url, skip=[big.action_id])
    assert [change.key for change in skipped.rows if change.table == "accounts"] == [(1,)]


def test_a_narrow_fork_comes_to_the_same_and_runs_what_touches_what_differs(bus: Bus, new_sandbox: NewSandbox) -> None:
    fill(bus)
    for number in range(20):
        bus.execute("open_account", {"id": 100 + number, "name": f"later {number}"})
    for number in range(40):
        bus.execute("deposit", {"id": 100 + number % 20, "amount": 1 + number})
    bus.execute("transfer", {"source": 100, "target": 2, "amount": 1})
    bus.execute("withdraw", {"id": 2, "amount": 3})
    big = list(bus.journal.read(action="deposit", kind="outcome"))[1]
    whole_line = forked(bus, new_sandbox(), skip=[big.action_id])
    with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
        narrow = NarrowForking(replayer, skip=[big.action_id]).run()
    assert [str(each) for each in narrow.rows] == [str(each) for each in whole_line.rows]
    assert [each.action_id for each in narrow.ended] == [each.action_id for each in whole_line.ended]
    assert narrow.taken > 30
    assert narrow.run + narrow.taken >= whole_line.run
    assert narrow.run < whole_line.run // 2


def test_what_reads_a_table_by_other_ways_than_keys_is_run_where_it_differs(bus: Bus, new_sandbox: NewSandbox) -> None:
    CallBack.function = lambda handler: handler.session.scalar(text("SELECT sum(balance) FROM accounts"))
    bus.execute("open_account", {"id": 1, "name": "a"})
    paid = bus.execute("deposit", {"id": 1, "amount": 3})
    for _ in range(6):
        bus.execute("call_back")
    with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
        narrow = NarrowForking(replayer, skip=[paid.action_id]).run()
    assert [each.action for each in narrow.ended] == ["deposit", *["call_back"] * 6]


def test_how_statements_are_seen_to_read() -> None:
    shapes = {
        name: Shape(0, name, ("id", "kit_id"), ("integer",) * 2, key, (), True, datetime.now(UTC), 0)
        for name, key in {"public.assets": ("id",), "public.pairs": ("id", "kit_id"), "plain": ()}.items()
    }
    for statement, read in {
        "SELECT assets.id FROM assets WHERE assets.id = %(pk_1)s FOR UPDATE": set(),
        'UPDATE assets SET name=? WHERE "assets"."id" = ?': set(),
        "INSERT INTO assets (id, kit_id) VALUES (?, ?)": set(),
        "SELECT assets.id FROM assets WHERE assets.kit_id = ?": {"public.assets"},
        "SELECT assets.id FROM assets WHERE assets.id = ? OR 1 = 1": {"public.assets"},
        "SELECT assets.id FROM assets WHERE assets.id = (SELECT max(id) FROM assets)": {"public.assets"},
        "SELECT pairs.id FROM pairs WHERE pairs.id = ?": {"public.pairs"},
        "SELECT pairs.id FROM pairs WHERE pairs.id = ? AND pairs.kit_id = ?": set(),
        "SELECT * FROM plain WHERE id = ?": {"plain"},
        "SELECT * FROM assets JOIN pairs ON assets.id = pairs.id WHERE assets.id = ?": {
            "public.assets",
            "public.pairs",
        },
        "INSERT INTO pairs SELECT * FROM assets": {"public.assets", "public.pairs"},
        "SELECT * FROM a_view": {ANY},
        "SELECT now()": set(),
    }.items():
        ways = ReadWays(shapes, {})
        ways.note("a", [statement])
        assert ways.tables("a") == read, statement
    for statement, read in {
        "INSERT INTO assets (id) VALUES (?)": {"public.assets"},
        "UPDATE assets SET name = ? WHERE id = ?": {"public.assets"},
        "UPDATE assets SET kind = ? WHERE id = ? AND name = ?": set(),
    }.items():
        unique = ReadWays(shapes, {"public.assets": ["name"]})
        unique.note("a", [statement])
        assert unique.tables("a") == read, statement
