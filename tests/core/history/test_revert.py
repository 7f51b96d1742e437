"""`runner.revert`: what an action changed is put back, or what is in the way is named and nothing is changed."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Application, Bus, InvalidArguments, PermissionDenied, RevertConflict
from actionbus.core.history.install import install, remove
from actionbus.core.history.shapes import TableWanted
from tests.conftest import TORTURE, BusFactory
from tests.core.history.hard import Base, app, shown
from tests.core.history.hard.operations import Lost
from tests.shop.actions.call_back import CallBack

ACTIONS = 1_000 if TORTURE else 60


def does(*statements: str) -> None:
    """Let `call_back` run them."""
    CallBack.function = lambda handler: [handler.session.execute(text(each)) for each in statements] and None


def rows(bus: Bus, table: str = "accounts", columns: str = "id, name, balance") -> list[tuple[Any, ...]]:
    with bus.engine.connect() as connection:
        found = connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1"))
        return [tuple(row) for row in found]


def in_the_way(bus: Bus, action_id: Any) -> list[str]:
    """The conflicts that a revert names; it changes nothing."""
    before = rows(bus), rows(bus, "entries", "id, account_id, amount")
    with pytest.raises(RevertConflict) as raised:
        bus.runner(operator=True).revert(action_id)
    assert (rows(bus), rows(bus, "entries", "id, account_id, amount")) == before
    outcome = bus.journal.outcome(raised.value.action_id)  # type: ignore[arg-type]
    assert outcome is not None
    assert outcome.status == "rejected"
    return [str(each).replace("main.", "") for each in raised.value.conflicts]


@pytest.mark.parametrize("alter", ["DROP COLUMN note", "RENAME COLUMN note TO remark"])
def test_a_table_that_lost_a_column_is_named_until_it_is_installed_again(shop: Bus, alter: str) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text("CREATE TABLE slips (id INTEGER PRIMARY KEY, n INTEGER, note TEXT)"))
        install(shop.backend, connection, [TableWanted("slips")])
    does("INSERT INTO slips VALUES (1, 1, 'first')")
    shop.execute("call_back")
    does("UPDATE slips SET n = 2")
    done = shop.execute("call_back")
    with shop.engine.begin() as connection:
        if shop.backend.has_one_writer:  # its triggers would not let a column go
            remove(shop.backend, connection, [TableWanted("slips")])
        connection.execute(text(f"ALTER TABLE slips {alter}"))
    assert in_the_way(shop, done.action_id) == [
        "slips[]: it has no column note any more; run `actionbus history install` first"
    ]
    with shop.engine.begin() as connection:
        install(shop.backend, connection, [TableWanted("slips")])
    shop.runner(operator=True).revert(done.action_id)
    assert rows(shop, "slips", "id, n") == [(1, 1)]


def test_it_puts_back_what_an_action_and_those_nested_in_it_changed(shop: Bus) -> None:
    before = rows(shop), rows(shop, "entries", "id, account_id, amount")
    done = shop.execute("transfer", {"source": 1, "target": 2, "amount": 30})
    outcome = shop.runner(actor="ann", operator=True).revert(done.action_id)
    assert (rows(shop), rows(shop, "entries", "id, account_id, amount")) == before
    assert outcome.result == {
        "reverted": str(done.action_id),
        "action": "transfer",
        "rows": {"accounts": 2, "entries": 2},
    }
    record = shop.journal.outcome(outcome.action_id)
    assert record is not None
    assert (record.action, record.actor, record.cause_id) == ("revert_action", "ann", done.action_id)
    again = shop.runner(operator=True).revert(outcome.action_id)  # a revert is an action, too
    assert [balance for *_, balance in rows(shop)] == [70, 130]
    assert again.result["action"] == "revert_action"
    nested = next(r for r in shop.journal.read(cause_id=done.action_id, kind="outcome") if r.action == "deposit")
    shop.runner(operator=True).revert(nested.action_id)
    assert [balance for *_, balance in rows(shop)] == [70, 100]


def test_rows_that_moved_on_are_named_by_column_and_other_columns_are_left(shop: Bus) -> None:
    does("UPDATE accounts SET name = 'new' WHERE id = 1")
    renamed = shop.execute("call_back")
    shop.execute("deposit", {"id": 1, "amount": 7})
    shop.runner(operator=True).revert(renamed.action_id)
    assert rows(shop)[0] == (1, "account 1", 107)
    renamed = shop.execute("call_back")
    does("UPDATE accounts SET name = 'newer' WHERE id = 1")
    shop.execute("call_back")
    assert in_the_way(shop, renamed.action_id) == ["accounts[1].name: was new, now newer"]


def test_a_row_that_is_gone_or_there_again_is_named(shop: Bus) -> None:
    does("INSERT INTO accounts VALUES (5, 'five', 1)")
    opened = shop.execute("call_back")
    does("DELETE FROM accounts WHERE id = 5")
    closed = shop.execute("call_back")
    assert in_the_way(shop, opened.action_id) == ["accounts[5]: was there, now gone"]
    does("INSERT INTO accounts VALUES (5, 'other', 2)")
    shop.execute("call_back")
    assert in_the_way(shop, closed.action_id) == ["accounts[5]: was gone, now there again"]


def test_rows_that_hang_on_it_and_values_that_are_taken_are_named(shop: Bus) -> None:
    does("INSERT INTO accounts VALUES (5, 'five', 1)")
    opened = shop.execute("call_back")
    does("INSERT INTO entries VALUES (900, 5, 1)")
    shop.execute("call_back")
    (told,) = in_the_way(shop, opened.action_id)
    assert told.startswith("accounts[5]: ")
    assert "constraint" in told.lower()
    does("UPDATE accounts SET name = 'moved' WHERE id = 2")
    renamed = shop.execute("call_back")
    does("INSERT INTO accounts VALUES (6, 'account 2', 1)")
    shop.execute("call_back")
    (told,) = in_the_way(shop, renamed.action_id)
    assert told.startswith("accounts[2]: ")


def test_parents_come_back_before_children_and_go_after_them(shop: Bus) -> None:
    does("INSERT INTO accounts VALUES (5, 'five', 1)", "INSERT INTO entries VALUES (900, 5, 1), (901, 5, 2)")
    opened = shop.execute("call_back")
    shop.runner(operator=True).revert(opened.action_id)
    assert len(rows(shop)) == 2
    shop.execute("call_back")
    does("DELETE FROM entries WHERE id >= 900", "DELETE FROM accounts WHERE id = 5")
    closed = shop.execute("call_back")
    shop.runner(operator=True).revert(closed.action_id)
    assert rows(shop)[2] == (5, "five", 1)
    assert len(rows(shop, "entries", "id")) == 4


def test_names_that_change_places_within_an_action_come_back(shop: Bus) -> None:
    does(
        "DELETE FROM entries WHERE account_id = 2",
        "DELETE FROM accounts WHERE id = 2",
        "INSERT INTO accounts VALUES (3, 'account 2', 4)",
    )
    before = rows(shop)
    done = shop.execute("call_back")
    shop.runner(operator=True).revert(done.action_id)
    assert rows(shop) == before


@pytest.mark.parametrize("which", ["failed", "unknown", "nothing"])
def test_what_changed_nothing_is_refused(shop: Bus, which: str) -> None:
    ids = {"unknown": "0b0e6a1e-7f3c-4c6d-9d0e-111111111111"}
    if which == "failed":
        with suppress(ArithmeticError):
            shop.execute("withdraw", {"id": 1, "amount": 500})
        ids["failed"] = shop.journal.tail(1)[0].action_id  # type: ignore[assignment]
    CallBack.function = lambda handler: None
    ids["nothing"] = shop.execute("call_back").action_id  # type: ignore[assignment]
    with pytest.raises(InvalidArguments):
        shop.runner(operator=True).revert(ids[which])
    last = shop.journal.tail(1)[0]
    assert (last.status, last.cause_id is None) == ("rejected", which == "unknown")


def test_the_checkpoint_grants_it_or_only_operators_may(shop: Bus, make_bus: BusFactory) -> None:
    done = shop.execute("deposit", {"id": 1, "amount": 1})
    with pytest.raises(PermissionDenied, match="mallory may not actionbus:revert"):
        shop.runner(actor="mallory").revert(done.action_id)
    assert shop.runner(actor="ann").revert(done.action_id).status == "succeeded"
    # Nobody is there to ask.
    unguarded = make_bus(Application("bare", actions=["tests.core.no_actions"]))
    done = shop.execute("deposit", {"id": 1, "amount": 1})
    with pytest.raises(PermissionDenied, match="only who operates the service"):
        unguarded.runner(actor="ann").revert(done.action_id)
    assert unguarded.runner(operator=True).revert(done.action_id).status == "succeeded"


def test_the_same_key_reverts_once(shop: Bus) -> None:
    done = shop.execute("deposit", {"id": 1, "amount": 1})
    runner = shop.runner(operator=True)
    first = runner.revert(done.action_id, idempotency_key="k")
    assert runner.revert(done.action_id, idempotency_key="k").repeated
    assert first.status == "succeeded"
    assert rows(shop)[0][2] == 100


def test_what_a_trigger_would_write_besides_is_named_and_not_left(make_sqlite_bus: BusFactory) -> None:
    bus = make_sqlite_bus()
    bus.create()
    bus.execute("open_account", {"id": 1, "name": "one"})
    with bus.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER noted AFTER UPDATE ON accounts BEGIN "
                "INSERT INTO entries (account_id, amount) VALUES (NEW.id, 0); END"
            )
        )
    does("UPDATE accounts SET balance = 5 WHERE id = 1")
    changed = bus.execute("call_back")
    told = in_the_way(bus, changed.action_id)
    assert all(each.startswith("entries[") and "changed as well, by a trigger" in each for each in told)


def everything(bus: Bus) -> Counter[tuple[str, str]]:
    with bus.engine.connect() as connection:
        return Counter(
            (name, shown(row))
            for name in Base.metadata.tables
            for row in connection.exec_driver_sql(f"SELECT * FROM {name}")
        )


def test_any_action_is_put_back_or_what_is_in_the_way_is_named(url: Any) -> None:
    """Of a hard application, whose triggers, cascades, trees, partitions and tables without key are in the way."""
    bus, chance = Bus(app, url), random.Random(5)
    bus.create()
    done: list[Any] = []
    counts: Counter[str] = Counter()
    for number in range(ACTIONS):
        before = everything(bus)
        with suppress(Lost):
            arguments = {"owner": 1, "seed": number * 10, "mark": str(number), "nested": chance.choice((0, 0, 1))}
            done.append(bus.execute("work", arguments).action_id)
        which = done[-1] if chance.random() < 0.6 else chance.choice(done)
        between = everything(bus)
        try:
            outcome = bus.runner(operator=True).revert(which)
        except RevertConflict as error:
            assert everything(bus) == between
            assert all(each.table and str(each) for each in error.conflicts)
            counts["conflict"] += 1
        except InvalidArguments as error:
            assert "changed no row" in str(error)
            counts["nothing"] += 1
        else:
            counts["reverted"] += 1
            if which == done[-1]:
                assert everything(bus) == before
            done.append(outcome.action_id)
    assert counts["reverted"] > ACTIONS // 3, counts
    bus.close()
