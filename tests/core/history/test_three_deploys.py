"""Through three deploys with a migration after each, the past is what stood in the tables, whichever code asks, or none.

Copies of all tables are kept while it runs. The second deploy has a bug, actions are renamed and deleted, people write
past the gateway; the questions come at random positions, in random order.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import History
from actionbus.core.history.decoding import UNKNOWN
from tests.conftest import TORTURE
from tests.core.history.deploying import KEYS, Shop, counted, exact
from tests.servers import Server

STEPS = 150 if TORTURE else 30
"""Of each deploy."""
ASKED = 100 if TORTURE else 25
SEEDS = range(3) if TORTURE else range(1)
RENAMED = {"quantity": "amount", "who": "visitor"}
Row = dict[str, Any]


@pytest.fixture
def psql(server: Server) -> str:
    found = server.program("psql") or shutil.which("psql")
    assert found, "psql is needed: the wheel has it, and so has every server"
    return str(found)


@pytest.fixture(params=SEEDS)
def shop(
    request: pytest.FixtureRequest, url: URL, tmp_path: Path, psql: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """After all three."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in [each for each in sys.modules if each.startswith("deploy_")]:
        del sys.modules[module]  # another shop's
    made = Shop(url, tmp_path, request.param, psql)
    for deploy in (1, 2, 3):
        made.work(deploy, STEPS)
        if deploy < 3:
            made.migrate(deploy)
    yield made
    made.close()


class Truth:
    """What the answers must be, by the copies alone."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.positions = sorted(shop.copies)

    def rows(self, table: str, at: int) -> dict[Any, Row]:
        """By key, or in the order in which they stood there."""
        columns, rows = self.shop.copies[at][table]
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        key = KEYS[table]
        return {tuple(row[each] for each in key) if key else n: row for n, row in enumerate(named)}

    def began(self, table: str, at: int) -> int:
        """The last baseline."""
        return max((each for each in self.shop.began[table] if each <= at), default=0)

    def last_change(self, table: str, key: Any, column: str, at: int) -> int:
        """The position that gave a column the value that it has; a baseline does where it finds another."""
        held, found = _named(self.rows(table, at)[key]), at
        for position in reversed([each for each in self.positions if each <= at]):
            row = self.rows(table, position).get(key)
            then = None if row is None else _named(row)
            if then is None or column not in then or exact([then[column]]) != exact([held[column]]):
                return found
            found = position
        return found

    def written(self, table: str, key: Any, at: int) -> int:
        """The last position at which a row was changed; in a column that was there on both sides."""
        found = held = None
        for position in [each for each in self.positions if each <= at]:
            row = self.rows(table, position).get(key)
            if found is None or (held is None) != (row is None) or (row and held and not _agree(held, row)):
                found = position
            held = row
        assert found is not None
        return found

    def may_be_unknown(self, table: str, key: Any, column: str, at: int) -> bool:
        """Of a column that came with a migration, until the row is written again; a no-change cannot be told here."""
        added = self.shop.migrations[1]
        return (table, column) == ("items", "currency") and at >= added > self.written(table, key, at)


def _named(row: Mapping[str, Any]) -> Row:
    """By the columns' last names."""
    return {RENAMED.get(name, name): value for name, value in row.items()}


def _agree(one: Row, other: Row) -> bool:
    first, second = _named(one), _named(other)
    return all(exact([first[name]]) == exact([second[name]]) for name in first if name in second)


def check_state(history: History, truth: Truth, table: str, at: int) -> None:
    told = history.state(table, at)
    rows = next(iter(told.tables.values()))
    columns = truth.shop.copies[at][table].columns
    there = truth.rows(table, at)
    known = []
    for row in rows:
        assert tuple(row) == columns
        key = tuple(row[each] for each in KEYS[table])
        for name, value in row.items():
            if value is UNKNOWN:
                assert truth.may_be_unknown(table, key, name, at), (table, at, row)
                row = row | {name: there[key][name]}
        known.append(exact(row.values()))
    assert Counter(known) == counted(truth.shop.copies[at][table]), (table, at)
    assert told.basis.gaps == ()


def check_blame(history: History, truth: Truth, table: str, at: int, chance: random.Random) -> None:
    there = truth.rows(table, at)
    if not KEYS[table] or not there:
        return
    key = chance.choice(list(there))
    for each in history.blame(table, key, at=at).columns:
        if each.value is UNKNOWN:
            assert truth.may_be_unknown(table, key, each.column, at), (table, key, each.column, at)
            continue
        assert exact([each.value]) == exact([there[key][each.column]]), (table, key, each.column, at)
        source = each.change.who.source
        assert source is not None
        right = truth.last_change(table, key, RENAMED.get(each.column, each.column), at)
        if each.column == "currency" and right <= truth.shop.migrations[1]:
            continue  # the migration gave it, and of that the images say nothing
        assert source.position == right, (table, key, each.column, at)
        assert (source.action or None) == truth.shop.sources[source.position]
        assert (each.change.who.bypass is None) == (truth.shop.sources[source.position] is not None)


def check_diff(history: History, truth: Truth, table: str, a: int, b: int) -> None:
    told = history.diff(a, b, table).rows
    before, after = counted(truth.shop.copies[a][table]), counted(truth.shop.copies[b][table])
    if truth.shop.copies[a][table].columns == truth.shop.copies[b][table].columns and not any(
        a < each <= b for each in (*truth.shop.migrations, *truth.shop.began[table])
    ):
        gone = Counter(exact(each.before.values()) for each in told if each.before)
        come = Counter(exact(each.after.values()) for each in told if each.after)
        unknown = any(v is UNKNOWN for each in told for row in (each.before, each.after) if row for v in row.values())
        if not unknown:
            assert (gone, come) == (before - after, after - before), (table, a, b)
        return
    if not KEYS[table]:
        return
    # Across a migration: the rows whose common columns differ, each side by the columns of the later position.
    first, second = truth.rows(table, a), truth.rows(table, b)
    for key in {*first, *second}:
        one, other = first.get(key), second.get(key)
        found = [each for each in told if tuple(each.key.values()) == key]
        differs = one is None or other is None or not _same_for_people(one, other)
        assert bool(found) >= differs, (table, key, a, b)
        if found and not differs and one and other:
            assert not _agree(one, other) or {*_named(one)} != {*_named(other)}, (table, key, a, b, found)


def _same_for_people(one: Row, other: Row) -> bool:
    """A column of another type by now has the same value if it reads the same."""
    first, second = _named(one), _named(other)
    return all(str(first[name]) == str(second[name]) for name in first if name in second)


def check_bisect(history: History, truth: Truth, table: str, at: int, chance: random.Random) -> None:
    there = truth.rows(table, at)
    if not KEYS[table] or not there:
        return
    key = chance.choice(list(there))
    column = "price" if table == "items" else RENAMED.get("quantity") if table == "orders" else "label"
    if column not in there[key] or there[key][column] is None:
        return
    value = there[key][column]
    found = history.bisect_row(table, key, column, value, at)
    begin = truth.began(table, at)
    held = [
        p
        for p in truth.positions
        if begin <= p <= at
        and (row := truth.rows(table, p).get(key))
        and exact([_named(row).get(column)]) == exact([value])
    ]
    assert found.source is not None
    assert found.source.position == held[0], (table, key, column, value, at)
    condition = " AND ".join(f"{n} = {v}" for n, v in zip(KEYS[table], key, strict=True))
    quoted = str(value).replace("'", "''")
    query = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {condition} AND CAST({column} AS text) = '{quoted}')"
    for good in (0, begin):
        if good and truth.rows(table, begin).get(key):
            continue
        told = history.bisect(query, good=good, bad=at)
        assert told.source is not None, (query, at)
        position = told.source.position
        row = truth.rows(table, position)[key]
        assert _reads_as(_named(row)[column], value), (query, position)
        previous = max((each for each in truth.positions if each < position), default=0)
        earlier = truth.rows(table, previous).get(key) if previous else None
        is_same = earlier is not None and _reads_as(_named(earlier).get(column), value)
        assert not is_same or position == begin, (query, position)


@pytest.mark.early
def test_answers_equal_copies_with_each_code_and_with_none(shop: Shop) -> None:
    truth = Truth(shop)
    chance = random.Random(7)
    with ExitStack() as stack:
        asked = [stack.enter_context(shop.opened(number)).history for number in (1, 2, 3)]
        asked.append(History(shop.url))
        # On SQLite each table is renewed at a position of its own, for which there is no copy of the others.
        renewals = {each for found in shop.began.values() for each in found} if shop.is_sqlite else set()
        positions = [each for each in truth.positions if each >= shop.migrations[0] and each not in renewals]
        for at in chance.sample(positions, min(ASKED, len(positions))):
            other = chance.choice(positions)
            for table in chance.sample(list(KEYS), len(KEYS)):
                history = chance.choice(asked)
                check_state(history, truth, table, at)
                check_blame(history, truth, table, at, chance)
                check_diff(history, truth, table, min(at, other), max(at, other))
                check_bisect(history, truth, table, at, chance)
        end = asked[-1].state()
        for table, copy in shop.now.items():
            [rows] = [rows for name, rows in end.tables.items() if name.endswith(table)]
            assert Counter(exact(row.values()) for row in rows if UNKNOWN not in row.values()) <= counted(copy)
            assert len(rows) == len(copy.rows)
    assert {name for name in shop.sources.values() if name} >= {"set_price", "price_item", "drop_item", "visit"}


def _reads_as(one: Any, other: Any) -> bool:
    """A query sees a value in its column's last type: 184 of an integer column is 184.00 there."""
    return one == other if isinstance(one, (int, float, Decimal)) else str(one) == str(other)
