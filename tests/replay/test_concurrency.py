"""Histories made by eight writers at once, and races made on purpose."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.replay import Replayer
from tests.conftest import TORTURE, prepared
from tests.replay.conftest import MakeCopy, assert_none_divergent, attempt, open_bus
from tests.replay.racing_models import Base, Tally, between, gates
from tests.shop.app import make_application

ALL = ("succeeded", "rejected", "denied", "failed")


def side_by_side(count: int, work: Callable[[random.Random], None]) -> None:
    threads = [threading.Thread(target=work, args=(random.Random(number),)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_eight_writers_of_the_shop(postgres_url: URL, empty_postgres_url: URL) -> None:
    """Autoincrement keys, keys lost in rollbacks, nested actions, outside calls, failures."""
    prepared(postgres_url, recorded=True)
    with Bus(make_application(), postgres_url) as bus:

        def work(chance: random.Random) -> None:
            for _ in range(250 if TORTURE else 15):
                account, other = chance.randrange(15), chance.randrange(15)
                action, arguments = chance.choice(
                    [
                        ("open_account", {"id": account, "name": f"n{chance.randrange(25)}"}),
                        ("deposit", {"id": account, "amount": chance.randrange(-1, 10)}),
                        ("deposit", {"id": account, "amount": 3}),
                        ("withdraw", {"id": account, "amount": chance.randrange(9)}),
                        ("notify", {"to": chance.choice(["a", "nobody"]), "account": account or None}),
                        ("transfer", {"source": account, "target": other, "amount": 3, "go_on": True}),
                        ("draw", {}),
                    ]
                )
                attempt(bus, "ann", action, **arguments)

        side_by_side(8, work)
        with Replayer(bus.journal, make_application(), empty_postgres_url) as replayer:
            steps = list(replayer.verify(statuses=ALL))
            assert [(s, s.why) for s in steps if s.verdict == "unplayable"] == []
            assert_none_divergent(steps)
            assert Counter(s.verdict for s in steps)["same"] > 0.9 * len(steps)
            assert {s.record.status for s in steps} >= {"succeeded", "rejected", "failed"}
            replayer.sandbox.commit()
            for table in ("accounts", "entries"):
                rows = text(f"SELECT * FROM {table} ORDER BY 1")
                with bus.engine.connect() as real, replayer.sandbox.engine.connect() as replayed:
                    assert real.execute(rows).all() == replayed.execute(rows).all()


def test_eight_writers_of_the_library(postgres_url: URL, empty_postgres_url: URL, make_copy: MakeCopy) -> None:
    with open_bus(make_copy().application(), postgres_url) as bus:
        kits = [attempt(bus, "ana", "create_kit", name=f"k{n}")["kit_id"] for n in range(4)]
        for kit in kits:
            attempt(bus, "ana", "share_kit", kit_id=kit, member="ben", role="editor")

        def work(chance: random.Random) -> None:
            assets: list[Any] = []
            for number in range(100 if TORTURE else 8):
                kit, actor = chance.choice(kits), chance.choice(["ana", "ben", "cleo"])
                made = attempt(bus, actor, "add_asset", kit_id=kit, name=f"a{chance.randrange(60)}", tags=["x", "y"])
                assets += [made["asset_id"]] if made else []
                if assets:
                    asset = chance.choice(assets)
                    attempt(bus, actor, "tag_asset", asset_id=asset, tags=[f"t{chance.randrange(5)}"])
                    attempt(bus, actor, "move_asset", asset_id=asset, kit_id=chance.choice(kits))
                attempt(bus, actor, "rename_kit", kit_id=kit, name=f"k{chance.randrange(9)}")
                if number % 10 == 0:
                    attempt(
                        bus, "ana", "publish_kit", kit_id=kit, file=chance.choice(["f.txt", "/bad"]), tags=["a", "b"]
                    )
                    attempt(bus, "ben", "duplicate_kit", kit_id=kit, name=f"copy{chance.randrange(99)}")

        side_by_side(8, work)
        with Replayer(bus.journal, make_copy().application(), empty_postgres_url) as replayer:
            steps = list(replayer.verify(statuses=ALL))
        assert [(s, s.why) for s in steps if s.verdict == "unplayable"] == []
        assert_none_divergent(steps)
        assert {s.record.status for s in steps} == set(ALL)


def racing() -> Application:
    return Application("racing", actions=["tests.replay.racing"], models=Base.metadata)


def test_races_come_out_as_concurrent(postgres_url: URL, empty_postgres_url: URL) -> None:
    """Two read a value, then both write it: the second writes what no order of the two would give."""
    with open_bus(racing(), postgres_url) as bus:
        bus.execute("count_up", {"id": 1})
        for _ in range(5):
            gates["read"] = threading.Barrier(2)

            def once(_: random.Random) -> None:
                bus.execute("count_up", {"id": 1, "wait": True})

            side_by_side(2, once)
            gates.clear()
            bus.execute("count_up", {"id": 1})
        with bus.engine.connect() as connection:
            assert connection.execute(select(Tally.value)).scalar_one() == 11, "five updates were lost"
        with Replayer(bus.journal, racing(), empty_postgres_url) as replayer:
            steps = list(replayer.verify())
            counted = Counter(step.verdict for step in steps)
            assert counted["divergent"] == counted["unplayable"] == 0, [(s, s.differences) for s in steps]
            assert counted["concurrent"] >= 5
            concurrent = [step for step in steps if step.verdict == "concurrent"]
            outcomes = {step.record.action_id for step in steps}
            assert all(step.overlapped and set(step.overlapped) <= outcomes for step in concurrent)
            rows = replayer.sandbox.connection.execute(select(Tally.value)).scalar_one()
            assert rows == 11, "the sandbox went the way that history went"


def test_what_was_read_before_and_after_another_commit_is_concurrent(
    postgres_url: URL, empty_postgres_url: URL
) -> None:
    """No single state explains that; that the other committed between two of its statements does. Nothing follows."""
    with open_bus(racing(), postgres_url) as bus:
        for number in (1, 2, 3):
            bus.execute("count_up", {"id": number})

        def meanwhile() -> None:
            other = threading.Thread(target=bus.execute, args=("count_both",))
            other.start()
            other.join()

        between.append(meanwhile)
        assert bus.execute("add_up").result == {"total": 12}, "the old value of the first, the new one of the second"
        between.clear()
        bus.execute("count_up", {"id": 3})
        with Replayer(bus.journal, racing(), empty_postgres_url) as replayer:
            steps = list(replayer.verify())
        assert [(s.record.action, s.verdict) for s in steps[3:]] == [
            ("count_both", "same"),
            ("add_up", "concurrent"),
            ("count_up", "same"),
        ]
        assert "tallies" in (steps[4].statement or ""), "before which of its statements the other committed"


def test_a_bug_among_races_is_still_a_divergence(
    postgres_url: URL, empty_postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.replay.racing import count_up

    with open_bus(racing(), postgres_url) as bus:
        gates["read"] = threading.Barrier(2)
        numbers = iter((1, 2))
        side_by_side(2, lambda _: bus.execute("count_up", {"id": next(numbers), "wait": True}) and None)
        gates.clear()
        monkeypatch.setattr(count_up, "STEP", 2)
        with Replayer(bus.journal, racing(), empty_postgres_url) as replayer:
            steps = list(replayer.verify())
        assert [step.verdict for step in steps] == ["divergent"] * 2, "they overlap, and it makes no difference"
