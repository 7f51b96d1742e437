"""Bugs planted into the idioms of an application as hard as others' are named; what harms nothing is silent.

Each is planted by a change of the idiom's source, while all history is gone through once: an action of that idiom is
judged with it and without it, on the recorded state before it, as `verify` does.
"""

from __future__ import annotations

import inspect
import random
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.replay import Replayer, Step
from tests.conftest import TORTURE
from tests.replay.conftest import assert_none_divergent, attempt, open_bus
from tests.replay.trade import make_application
from tests.replay.trade.idioms import IDIOMS
from tests.replay.trade.planted import BUGS, HARMLESS
from tests.replay.trade.verifying import ALL, arguments

ENOUGH = 5
VALUES = ": recorded .+, now .+"


def changed(idiom: str, *changes: tuple[str, str]) -> Callable[[Any], Any]:
    """The idiom with other source."""
    function = IDIOMS[idiom]
    source = inspect.getsource(function).removeprefix("@idiom\n")
    for old, new in changes:
        assert source.count(old) >= 1, f"{idiom} has no {old!r}"
        source = source.replace(old, new)
    names = dict(vars(sys.modules[function.__module__]))
    exec(compile(source, f"<{idiom}>", "exec"), names)
    made: Callable[[Any], Any] = names[idiom]
    return made


PLANTED: dict[str, dict[str, Callable[[Any], Any]]] = defaultdict(dict)
for name, (idiom, change, _) in BUGS.items():
    PLANTED[idiom][name] = changed(idiom, change)
for name, (idiom, *changes) in HARMLESS.items():
    PLANTED[idiom][name] = changed(idiom, *changes)


def judged(bus: Bus, sandbox: Any, after: int = 0) -> dict[str, list[Step]]:
    """What is said of each action as it is, under "", and with each of what can be planted into its idiom.

    A bug is planted until it has been found some times: of one that others cannot explain, all that can be is tried.
    """
    found: dict[str, list[Step]] = defaultdict(list)
    with Replayer(bus.journal, make_application(), sandbox) as replayer:
        for entry, recorded in replayer.begin(after, statuses=ALL):
            idiom = entry.outcome.arguments["idiom"]
            step = replayer.judged(entry, recorded)
            found[""].append(step)
            if step.rerun is not None:
                replayer.sandbox.drop(step.rerun)
            for name, function in PLANTED[idiom].items():
                if name in BUGS and sum(each.is_divergence for each in found[name]) >= ENOUGH:
                    continue
                before, IDIOMS[idiom] = IDIOMS[idiom], function
                try:
                    step = replayer.judged(entry, recorded)
                finally:
                    IDIOMS[idiom] = before
                if step.rerun is not None:
                    replayer.sandbox.drop(step.rerun)
                found[name].append(step)
            replayer.sandbox.put(recorded)
    return found


def fill(bus: Bus) -> None:
    """Rows for everybody, and each idiom into which anything is planted twice."""
    for word in "abcdefgh":
        attempt(bus, "ann", "act", idiom="enlist", word=word)
        attempt(bus, "ann", "act", idiom="order", n=3, amount=5)
    for n in range(6):
        attempt(bus, "ann", "act", idiom="restock", n=n, amount=19)
    for idiom in sorted({each for each, *_ in (*BUGS.values(), *HARMLESS.values())}):
        for _ in range(2):
            attempt(bus, "ann", "act", idiom=idiom, n=1, word="a", amount=9)


def check(found: dict[str, list[Step]]) -> None:
    """Who is accused, and of what."""
    assert [(step, step.why, step.differences) for step in found[""] if step.is_divergence] == [], "unchanged"
    missed = {name: [shown(step) for step in found[name]] for name in BUGS if not is_named(name, found[name])}
    missed |= {name: [shown(step) for step in found[name]] for name in HARMLESS if not is_silent(found[name])}
    assert missed == {}


def is_named(bug: str, steps: list[Step]) -> bool:
    told = [str(each) for step in steps if step.is_divergence for each in step.differences]
    return any(re.match(BUGS[bug][2] + VALUES, each) for each in told)


def is_silent(steps: list[Step]) -> bool:
    return bool(steps) and not any(step.is_divergence for step in steps)


def shown(step: Step) -> Any:
    return step.position, step.verdict, step.why, [str(each) for each in step.differences][:4]


@pytest.fixture
def history(url: URL) -> Iterator[Bus]:
    with open_bus(make_application(), url) as bus:
        yield bus


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 45
    assert len(HARMLESS) >= 20


def test_one_after_the_other(history: Bus, sandbox_url: URL) -> None:
    fill(history)
    found = judged(history, sandbox_url)
    check(found)
    accused = {step.verdict for name in BUGS for step in found[name]} | {step.verdict for step in found[""]}
    assert "concurrent" not in accused


@pytest.mark.early
@pytest.mark.slow
def test_among_eight_writers(postgres_url: URL, server: Any) -> None:
    """What strikes there is by chance, so that in the short form not every bug does."""
    with open_bus(make_application(), postgres_url) as bus:
        fill(bus)
        begin = bus.journal.last()

        def work(chance: random.Random) -> None:
            for _ in range(80 if TORTURE else 3):
                attempt(bus, "ann", "act", **arguments(chance, chance.choice(sorted(IDIOMS))))

        threads = [threading.Thread(target=work, args=(random.Random(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sandbox = server.database()
        found = judged(bus, sandbox, begin)
        server.drop(sandbox)
    assert_none_divergent(found[""])
    assert [name for name in HARMLESS if found[name] and not is_silent(found[name])] == []
    named = {name for name in BUGS if is_named(name, found[name])}
    assert len(named) >= (len(BUGS) if TORTURE else 3), sorted(set(BUGS) - named)


TRIGGERS = {
    "gone": (["DROP TRIGGER log_stock ON stock"], ["DROP TRIGGER log_stock"], r"stock_log\[\d+\]"),
    "another value": (
        [
            """CREATE OR REPLACE FUNCTION log_stock() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO stock_log (ware, quantity) VALUES (NEW.ware, NEW.quantity + 1); RETURN NEW; END$$"""
        ],
        [
            "DROP TRIGGER log_stock",
            """CREATE TRIGGER log_stock AFTER UPDATE ON stock BEGIN
            INSERT INTO stock_log (ware, quantity) VALUES (NEW.ware, NEW.quantity + 1); END""",
        ],
        r"stock_log\[\d+\]\.quantity",
    ),
}


@pytest.mark.parametrize("what", TRIGGERS)
def test_a_trigger_that_does_something_else(history: Bus, sandbox_url: URL, what: str) -> None:
    on_postgresql, on_sqlite, place = TRIGGERS[what]
    for _ in range(2):
        attempt(history, "ann", "act", idiom="restock", n=1, amount=9)
    with Replayer(history.journal, make_application(), sandbox_url) as replayer:
        for statement in on_postgresql if history.engine.dialect.name == "postgresql" else on_sqlite:
            replayer.sandbox.connection.exec_driver_sql(statement)
        _, second = replayer.verify()
    assert second.verdict == "divergent"
    assert [str(each) for each in second.differences if re.match(place + VALUES, str(each))] != []


def test_another_value_by_the_drivers_cursor(history: Bus, sandbox_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_cursor(h: Any, word: str = "cursor") -> None:
        cursor = h.session.connection().connection.cursor()
        cursor.execute(f"INSERT INTO jobs (what, created_at) VALUES ('{word}', '2020-01-01')")

    monkeypatch.setitem(IDIOMS, "by_cursor", by_cursor)
    attempt(history, "ann", "act", idiom="by_cursor")
    monkeypatch.setitem(IDIOMS, "by_cursor", lambda h: by_cursor(h, "other"))
    with Replayer(history.journal, make_application(), sandbox_url) as replayer:
        (step,) = replayer.verify()
    assert [str(each) for each in step.differences] == ["jobs[1].what: recorded cursor, now other"]
    assert step.is_divergence
