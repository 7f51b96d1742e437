"""Filters go by their index and look at a bounded number of records; the plans are asked of the database itself."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.engine import URL

from actionbus import Bus, Excluded, JournalFilter
from actionbus.core import journal as journal_module
from actionbus.core.browsing import causes, density, facets, narrowed_density, pages
from actionbus.core.storage import reader, totals, unfinished
from actionbus.core.storage.table import journal_table
from tests.conftest import BusFactory, create_shop
from tests.copies import copied
from tests.core.storage.plans import plan_of, rows_read
from tests.shop.app import make_application

MANY = 6_000
CAUSE = UUID(int=7)
OUTCOMES: tuple[Literal["outcome"], Literal["bypass"]] = ("outcome", "bypass")
SEEKS_NO_POSITION = re.compile(r"INDEX journal_(actor|action|cause|correlation|unsuccessful) \((?!.*position[<>=])")
START = datetime(2026, 1, 1, tzinfo=UTC)
FILTERS: list[dict[str, Any]] = [
    {"actor": "often"},
    {"actor": "seldom"},
    {"actor": "long ago"},
    {"actor": "never"},
    {"actor": ["seldom", "long ago"]},
    {"action": "common"},
    {"action": ["rare", "nowhere"]},
    {"status": "failed"},
    {"status": ["failed", "denied"]},
    {"correlation_id": "batch"},
    {"correlation_id": "c-17"},
    {"cause_id": CAUSE},
    {"actor": "often", "status": "failed"},
    {"actor": "often", "excluded": Excluded(action=["common"])},
]


def fill(url: URL) -> None:
    """A journal in which an actor who was active long ago is as frequent as others, which misleads a planner."""
    chance, rows = random.Random(1), []
    for number in range(MANY // 2):
        moment = START + timedelta(minutes=number)
        status = chance.choices(["succeeded", "failed", "rejected"], [97, 1, 2])[0]
        actor = "long ago" if number < 400 else "seldom" if number % 500 == 0 else "often"
        action = "rare" if number % 700 == 0 else "common"
        own = {
            "action_id": uuid4(),
            "action": action,
            "actor": actor,
            "recorded_at": moment,
            "format": 1,
            "correlation_id": "batch" if number < 1500 else f"c-{number}",
            "cause_id": CAUSE if number % 900 == 1 else None,
        }
        rows += [own | {"kind": "submitted", "status": None}, own | {"kind": "outcome", "status": status}]
    create_shop(url)
    with Bus(make_application(), url) as bus:
        with bus.engine.begin() as connection:
            connection.execute(insert(journal_table()), rows)
        with bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
        with_marks(bus)


@pytest.fixture
def bus(url: URL, make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> Bus:
    monkeypatch.setattr(pages, "LOOKED_AT", 300)
    monkeypatch.setattr(pages, "_AT_ONCE", 40)
    monkeypatch.setattr(journal_module, "_WALKED", 300)
    monkeypatch.setattr(reader, "_SCAN", 300)
    for module in (totals, unfinished):
        monkeypatch.setattr(module, "MANY", 300)
    if not copied(url, "a long journal", fill):
        fill(url)
    return with_marks(make_bus())


def with_marks(bus: Bus) -> Bus:
    """Marks are moved, once, by what goes by them."""
    bus.journal.stats()
    bus.journal.unfinished()
    return bus


@pytest.fixture
def sent(bus: Bus) -> list[Any]:
    """The queries of the journal that are sent from now on."""
    found: list[Any] = []

    def note(*given: Any) -> None:
        if "journal" in given[2] and given[2].lstrip().startswith(("SELECT", "WITH")):
            found.append((given[2], given[3]))

    event.listen(bus.backend.gateway, "before_cursor_execute", note)
    return found


READS: dict[str, Callable[[Bus], Any]] = {
    **{
        str(each): lambda bus, each=each: pages.page(bus.journal, JournalFilter(kind=OUTCOMES, **each), limit=20)
        for each in FILTERS
    },
    "backward": lambda bus: pages.page(
        bus.journal, JournalFilter(kind=OUTCOMES, actor="long ago"), after=5000, limit=20
    ),
    "no filter": lambda bus: pages.page(bus.journal, limit=20),
    "what nothing has": lambda bus: pages.page(bus.journal, JournalFilter(release="nine"), limit=20),
    "since": lambda bus: pages.page(bus.journal, JournalFilter(since=START + timedelta(minutes=2000)), limit=20),
    "until": lambda bus: pages.page(bus.journal, JournalFilter(until=START + timedelta(minutes=900)), limit=20),
    "at the tail": lambda bus: list(bus.journal.read(since=START + timedelta(minutes=MANY // 2 - 20))),
    "last before": lambda bus: bus.journal.last_before(START + timedelta(minutes=777)),
    "whole": lambda bus: list(bus.journal.read(kind="outcome", actor="seldom")),
    "a few": lambda bus: list(bus.journal.read(kind="outcome", actor="often", limit=20)),
    "density": lambda bus: density.density(bus.journal, JournalFilter(), 20),
    "density of an actor": lambda bus: density.density(bus.journal, JournalFilter(kind=OUTCOMES, actor="long ago"), 20),
    "density of a release": lambda bus: density.density(bus.journal, JournalFilter(kind=OUTCOMES, release="nine"), 20),
    "density of words": lambda bus: density.density(bus.journal, JournalFilter(kind=OUTCOMES, text="hay"), 20),
    "density of what touched a table": lambda bus: density.density(
        bus.journal, JournalFilter(kind=OUTCOMES, touching=("accounts",)), 20
    ),
    "facets": lambda bus: facets.facets(bus.journal, JournalFilter()),
    "stats": lambda bus: bus.journal.stats(),
    "unfinished": lambda bus: bus.journal.unfinished(),
    "causes": lambda bus: causes.tree(bus.journal, bus.journal.at(1803).action_id, depth=3, width=5),
    "caused": lambda bus: bus.journal.caused_by([CAUSE], 3),
    "one": lambda bus: bus.journal.get(bus.journal.at(3001).action_id),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_looks_at_few_records_of_a_long_journal(
    bus: Bus, sent: list[Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6,000 there are; whatever it is that is looked for, how frequent, and how long ago."""
    for module, limit in ((density, "COUNTED"), (narrowed_density, "SEARCHED"), (facets, "LOOKED_AT")):
        monkeypatch.setattr(module, limit, 300)
    READS[name](bus)
    assert sent
    for sql, given in sent:
        if bus.journal.dialect == "postgresql":
            assert rows_read(bus, sql, given) <= 1_600, sql  # facets go once for each field through 300
        else:
            plan = plan_of(bus, sql, given)
            assert "SCAN journal" not in plan.replace("SCAN journal USING", ""), f"{sql}\n{plan}"
            assert not SEEKS_NO_POSITION.search(plan), f"{sql}\n{plan}"


def test_pages_by_index_hold_what_a_walk_finds(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in FILTERS:
        where = JournalFilter(kind=OUTCOMES, **given)
        found, place = list[int](), None
        while True:
            turned = pages.page(bus.journal, where, before=place, limit=70)
            found += [each.position for each in turned.records]
            place = turned.low
            if not turned.has_older:
                break
        forward, place = list[int](), 0
        while True:
            turned = pages.page(bus.journal, where, after=place, limit=70)
            forward += [each.position for each in turned.records[::-1]]
            place = turned.high
            if not turned.has_newer:
                break
        by_index = [each.position for each in bus.journal.read(where=where)]
        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "_WALKED", MANY)
            walked = [each.position for each in bus.journal.read(where=where)]
        assert found[::-1] == forward == by_index == walked, given
        assert [each.position for each in bus.journal.read(where=where, limit=3)] == walked[:3]
