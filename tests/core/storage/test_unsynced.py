"""On SQLite the commit of an outcome waits for the disk, that of a submitted record need not, and nobody else's changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url

from actionbus import Bus
from actionbus.core.storage.rows import Row
from actionbus.core.storage.sqlite_statements import OUTCOME, SUBMITTED
from actionbus.core.storage.sqlite_unsynced import WithoutSync
from tests.conftest import prepared
from tests.shop.app import make_application

ASKED, LOWERED, RAISED = "PRAGMA synchronous", "PRAGMA synchronous=NORMAL", "PRAGMA synchronous=FULL"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """One connection to a file with a journal, of an engine that is the application's."""
    url = make_url(f"sqlite:///{tmp_path}/shop.db")
    prepared(url)
    engine = create_engine(url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest.fixture
def sent(engine: Engine) -> list[str]:
    """What the database is sent, in order."""
    found: list[str] = []
    event.listen(engine, "connect", lambda dbapi, _: dbapi.set_trace_callback(found.append))
    return found


def levels(sent: Sequence[str], level: str = "FULL") -> list[tuple[str, str]]:
    """What commits, and the level it is committed under."""
    found = []
    for each, _ in groupby(sent):  # an INSERT that has a trigger is told twice
        if each.startswith(f"{ASKED}="):
            level = each.rpartition("=")[2]
        elif each.startswith("COMMIT") or (each.startswith("INSERT INTO main.journal") and "'submitted'" in each):
            found.append((each.split()[0], level))
    return found


def open_accounts(bus: Bus, *ids: int) -> None:
    for each in ids:
        bus.execute("open_account", {"id": each, "name": f"{each}"})


def test_an_outcome_waits_for_the_disk_and_its_submitted_record_does_not(engine: Engine, sent: list[str]) -> None:
    with Bus(make_application(), engine) as bus:
        open_accounts(bus, 1)
        sent.clear()
        open_accounts(bus, 2, 3)
        assert levels(sent) == [("INSERT", "NORMAL"), ("COMMIT", "FULL")] * 2
        assert sent.count(LOWERED) == sent.count(RAISED) == 2
        assert ASKED not in sent, "it is known by now"


@pytest.mark.parametrize("level", ["OFF", "normal", "1"])
def test_what_the_application_sets_between_actions_is_left_alone(engine: Engine, sent: list[str], level: str) -> None:
    with Bus(make_application(), engine) as bus:
        open_accounts(bus, 1)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA main.Synchronous = {level}")
        sent.clear()
        open_accounts(bus, 2, 3)
        assert not {LOWERED, RAISED} & {*sent}
        with engine.connect() as connection:
            assert connection.exec_driver_sql(ASKED).scalar_one() == (0 if level == "OFF" else 1)
            connection.exec_driver_sql("PRAGMA synchronous=full")
        sent.clear()
        open_accounts(bus, 4)
        assert levels(sent) == [("INSERT", "NORMAL"), ("COMMIT", "FULL")]


def test_an_interruption_before_it_waits_again_leaves_no_connection_that_does_not(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(*_: Any) -> None:
        raise KeyboardInterrupt

    with Bus(make_application(), engine) as bus:
        open_accounts(bus, 1)
        with monkeypatch.context() as patch:
            patch.setattr(WithoutSync, "__exit__", strike)
            with pytest.raises(KeyboardInterrupt):
                open_accounts(bus, 2)
        with engine.connect() as connection:
            assert connection.exec_driver_sql(ASKED).scalar_one() == 2


def test_every_field_of_a_row_is_written() -> None:
    assert {"kind", *SUBMITTED, *OUTCOME} == {*Row._fields}
