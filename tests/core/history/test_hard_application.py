"""A hard application under several processes: what is told at any moment is what stood there, and whose it was.

Each action returns what it wrote, found by copies of its own; `changes` must say the same.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from actionbus import Bus, History
from tests.conftest import TORTURE
from tests.core.history.hard import Base, Rows, app, difference, shown
from tests.core.history.hard.operations import LOST, Lost
from tests.processes import CONTEXT

PROCESSES = 6 if TORTURE else 3
ACTIONS = {"postgresql": 1_300 if TORTURE else 75, "sqlite": 700 if TORTURE else 60}
COPIES = 40 if TORTURE else 6
BETWEEN_COPIES_S = 0.05 if TORTURE else 0.3
SHARED = 4


def work(url: str, owner: int, actions: int) -> None:
    """One process: actions, and now and then a write past the gateway."""
    bus, chance = Bus(app, make_url(url)), random.Random(owner)
    for number in range(actions):
        what = chance.random()
        mark = f"{owner}.{number}"
        if what < 0.1:
            outside(bus.engine.url, owner, mark)
        elif what < 0.25:
            with suppress(OperationalError):  # tried often enough
                bus.execute("contend", {"id": chance.randint(1, SHARED)})
        else:
            arguments = {"owner": owner, "seed": owner * 100_000 + number * 10, "mark": mark}
            with suppress(Lost):
                bus.execute(
                    "work", arguments | {"nested": chance.choice((0, 0, 0, 1, 2)), "fails": chance.random() < 0.15}
                )
    bus.close()


def outside(url: URL, owner: int, mark: str) -> None:
    """Past the gateway, by the driver; a transaction that is rolled back besides."""
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = create_engine(url, connect_args={"timeout": 60} if is_sqlite else {})
    with engine.connect() as connection:
        sql = text("UPDATE nodes SET mark = :m WHERE id BETWEEN :low AND :low + 5")
        connection.execute(sql, {"m": LOST, "low": owner * 1000})
        connection.rollback()
        connection.execute(sql, {"m": f"outside {mark}", "low": owner * 1000})
        connection.execute(text("UPDATE shared SET mark = :m WHERE id = 1"), {"m": f"outside {mark}"})
        connection.commit()
    engine.dispose()


def copy(engine: Engine) -> tuple[int, Rows] | None:
    """All rows while nobody is between a position and its commit; None where changes wait for a position."""
    found: Rows = Counter()
    with engine.connect().execution_options(
        isolation_level="AUTOCOMMIT" if engine.dialect.name == "sqlite" else "REPEATABLE READ"
    ) as connection:
        connection.exec_driver_sql("BEGIN" if engine.dialect.name == "sqlite" else "LOCK TABLE journal IN SHARE MODE")
        at = connection.exec_driver_sql("SELECT max(position) FROM journal").scalar_one()
        for name in Base.metadata.tables:
            rows = connection.exec_driver_sql(f"SELECT * FROM {name}")
            found.update((name, shown(row)) for row in rows)
        waiting = connection.exec_driver_sql(
            "SELECT (SELECT max(image) FROM actionbus_images) > (SELECT max(images_upto) FROM journal)"
            if engine.dialect.name == "sqlite"
            else "SELECT false"
        ).scalar_one()
        connection.exec_driver_sql("ROLLBACK")
    return None if waiting else (at, found)


def told(history: History, at: int | None = None) -> Rows:
    """All rows as the history has them."""
    answer = history.state(at=at)
    assert answer.basis.gaps == ()
    assert not answer.basis.unrecorded
    return Counter(
        (name.removeprefix("public."), shown(row.values())) for name, rows in answer.tables.items() for row in rows
    )


def changed(history: History, action_id: UUID) -> list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    """What `changes` says of an action."""
    found = history.changes(action_id).changes
    assert all(each.who.bypass is None and each.who.source.action_id == action_id for each in found if each.who.source)
    return [(each.table.removeprefix("public."), each.before, each.after) for each in found]


def test_what_is_told_is_what_stood_there_and_who_wrote_it(url: URL) -> None:
    bus = Bus(app, url)
    bus.create()
    with bus.engine.begin() as connection:
        connection.execute(text("INSERT INTO shared VALUES (:i, 1, NULL)"), [{"i": i + 1} for i in range(SHARED)])
    bus.execute("contend", {"id": 1})
    share = ACTIONS[url.get_backend_name()] // PROCESSES
    plain = url.render_as_string(hide_password=False)
    workers = [CONTEXT.Process(target=work, args=(plain, number + 1, share)) for number in range(PROCESSES)]
    for each in workers:
        each.start()
    copies: dict[int, Rows] = {}
    while any(each.is_alive() for each in workers):
        if found := copy(bus.engine):
            copies[found[0]] = found[1]
        time.sleep(BETWEEN_COPIES_S)
    for each in workers:
        each.join()
        assert each.exitcode == 0
    bus.execute("contend", {"id": 1})  # on SQLite the last writes past the gateway are given a position
    end = copy(bus.engine)
    assert end
    assert told(bus.history) == end[1]
    for at in random.Random(1).sample(sorted(copies), min(COPIES, len(copies))):
        assert told(bus.history, at) == copies[at], at
    check_whose(bus)
    check_lost(bus, copies)
    bus.close()


def check_whose(bus: Bus) -> None:
    """Each action's changes add up to what it returned; those of one that failed are none."""
    with bus.engine.connect() as connection:
        failed = connection.exec_driver_sql(
            "SELECT action_id FROM journal WHERE kind = 'outcome' AND status <> 'succeeded'"
        ).all()
    assert failed
    assert not any(changed(bus.history, UUID(str(action_id))) for (action_id,) in failed)
    attempts = set()
    seen = 0
    late: Counter[str] = Counter()
    for record in bus.journal.read():
        if record.kind != "outcome" or record.status != "succeeded":
            continue
        images = changed(bus.history, record.action_id)
        result: Any = record.result
        if record.action == "contend":
            attempts.add(result["mark"])
            after = {"id": result["id"], "n": result["n"], "mark": result["mark"]}
            assert [image[2] for image in images][-1] == after
            assert len(images) == 2
            continue
        seen += 1
        wrote: Rows = Counter()
        for table, before, after in images:
            wrote.update([(table, shown(after.values()))] if after is not None else [])
            wrote.subtract([(table, shown(before.values()))] if before is not None else [])
        own = Counter({row: times for row, times in wrote.items() if row[0] != "audit"})
        assert difference(own, Counter()) == result["wrote"], record.position
        # What a deferred trigger writes is the outermost action's.
        assert record.cause_id is None or own == wrote
        late[record.correlation_id] += sum(table == "documents" and not before for table, before, _ in images)
        late[record.correlation_id] -= sum(times for row, times in wrote.items() if row[0] == "audit")
    assert seen > 20
    assert set(late.values()) == {0} or bus.engine.dialect.name == "sqlite"
    assert attempts


def check_lost(bus: Bus, copies: dict[int, Rows]) -> None:
    """Nothing of what was rolled back is in an image."""
    with bus.engine.connect() as connection:
        if bus.engine.dialect.name == "postgresql":
            images = [
                str(tuple(row)) for row in connection.exec_driver_sql("SELECT before, after FROM actionbus_images")
            ]
        else:
            images = [str(tuple(row)) for row in connection.exec_driver_sql("SELECT * FROM actionbus_images")]
    assert not [image for image in images if LOST in image]
    assert len(images) > 200
    returned = {record.result["mark"] for record in bus.journal.read() if record.action == "contend" and record.result}
    found = {word for image in images for word in [image.partition("attempt ")[2][:36]] if word}
    assert found <= {mark.removeprefix("attempt ") for mark in returned}
