"""History of an application as hard as others' reproduces itself: alone on each database, and under processes.

Nothing that SQLAlchemy's users do diverges by itself, and hardly anything cannot be run again.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.replay import Replayer
from actionbus.replay.sandbox import clocks
from tests.conftest import TORTURE
from tests.processes import CONTEXT
from tests.replay.conftest import NewSandbox, assert_none_divergent, attempt, open_bus
from tests.replay.trade import make_application
from tests.replay.trade.idioms import IDIOMS
from tests.replay.trade.models import Base
from tests.replay.trade.verifying import ALL, arguments, told, verified

HEAP = {"any_one", "any_order"}
"""Where nothing but the heap decides."""


def live(bus: Bus, chance: random.Random, actions: int) -> None:
    """Each idiom once at least, as far as there are so many."""
    names = sorted(IDIOMS)
    chosen = [names[k % len(names)] if k < len(names) else chance.choice(names) for k in range(actions)]
    for idiom in ["restock", "count", *chosen]:
        attempt(bus, "ann", "act", **arguments(chance, idiom))


def test_what_sqlalchemy_offers_comes_out_again(url: URL, sandbox_url: URL) -> None:
    with open_bus(make_application(), url) as bus:
        live(bus, random.Random(7), 700 if TORTURE else len(IDIOMS))
        steps = verified(bus, sandbox_url)
    assert told(steps, "divergent", "retired", "concurrent") == []
    assert len(told(steps, "unplayable")) <= len(steps) * 0.02, told(steps, "unplayable")
    assert told(steps, "order") == [] or {s.record.arguments["idiom"] for s in steps if s.verdict == "order"} <= HEAP
    assert {s.record.status for s in steps} == {"succeeded", "failed"}
    assert {s.record.arguments["idiom"] for s in steps} == set(IDIOMS)


def work(url: str, number: int, actions: int) -> None:
    """One process. A warning is an error, as where its actions are run again: it decides how they end."""
    warnings.simplefilter("error")
    with Bus(make_application(), make_url(url)) as bus:
        live(bus, random.Random(number), actions)


@pytest.mark.slow
def test_under_processes_nothing_diverges(postgres_url: URL, server: Any) -> None:
    processes, actions = (6, 216) if TORTURE else (3, 60)
    with open_bus(make_application(), postgres_url) as bus:
        live(bus, random.Random(7), 30)
        plain = postgres_url.render_as_string(hide_password=False)
        workers = [CONTEXT.Process(target=work, args=(plain, number, actions)) for number in range(processes)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert [each.exitcode for each in workers] == [0] * processes
        sandbox = server.database()
        steps = verified(bus, sandbox)
        server.drop(sandbox)
    assert told(steps, "retired") == []
    assert_none_divergent(steps)
    assert len(told(steps, "unplayable")) <= len(steps) * 0.02, told(steps, "unplayable")


def rows(connection: Any) -> dict[str, Counter[Any]]:
    """All that stands in the tables."""
    return {
        table.name: Counter(
            repr([bytes(each) if isinstance(each, memoryview) else each for each in row])
            for row in connection.exec_driver_sql(f"SELECT * FROM {table.name}")
        )
        for table in Base.metadata.sorted_tables
    }


def test_forward_it_ends_where_history_did_or_parts_where_a_bug_strikes(
    url: URL, new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heap and all: what differs without being a divergence is put as it was recorded."""
    with open_bus(make_application(), url) as bus:
        live(bus, random.Random(3), 1_000 if TORTURE else 40)
        for n in (3, 1):
            attempt(bus, "ann", "act", idiom="measure", n=n)
        with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
            steps = list(replayer.run(statuses=ALL))
            assert told(steps, "divergent") == []
            with bus.engine.connect() as connection:
                assert rows(replayer.sandbox.connection) == rows(connection)
        counted = [step.position for step in steps if step.record.arguments["idiom"] == "measure"]
        monkeypatch.setitem(IDIOMS, "measure", lambda handler: 3)
        with Replayer(bus.journal, make_application(), new_sandbox()) as replayer:
            parted = [step.position for step in replayer.run(statuses=ALL) if step.is_divergence]
            assert parted[0] == counted[0]
            with bus.engine.connect() as connection:
                was, now = rows(connection), rows(replayer.sandbox.connection)
            assert {name for name in was if was[name] != now[name]} == {"readings"}, "only what follows from it"


def test_the_clock_of_a_sandbox_whose_transaction_lasts(
    postgres_url: URL, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long: PostgreSQL tells when it began, which may be before what the action is allowed to see of clocks."""
    monkeypatch.setattr(clocks, "_SLACK", timedelta(0))
    with open_bus(make_application(), postgres_url) as bus:
        bus.execute("act", {"idiom": "raw_insert"})
        sandbox = server.database()
        steps = verified(bus, sandbox)
        server.drop(sandbox)
    assert [(step.verdict, step.differences) for step in steps] == [("same", [])]
