"""Whatever a database's or a role's defaults are, the gateway works, or says at once which default is in its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy.engine import URL

from actionbus import ActionInProgress, Bus, JournalUnavailable
from actionbus.core.storage.rows import Row
from tests.conftest import TORTURE, prepared, query
from tests.core.queues import Broker
from tests.core.storage.past_the_gateway import dsn, now
from tests.core.storage.writers import APPEND
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

LEVELS = ("read uncommitted", "read committed", "repeatable read", "serializable")
THREADS = 8
KEYS = 200 if TORTURE else 25


@pytest.fixture(params=LEVELS)
def strict(request: pytest.FixtureRequest, postgres_url: URL) -> URL:
    """A database with this default isolation level."""
    prepared(postgres_url)
    now(postgres_url, f"ALTER DATABASE {postgres_url.database} SET default_transaction_isolation = '{request.param}'")
    assert query(postgres_url, "SHOW transaction_isolation") == [(request.param,)]
    return postgres_url


def together(work: Callable[[int], Any]) -> list[Any]:
    """Run it in all threads at once; what each gave, or raised."""
    barrier = Barrier(THREADS)

    def one(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def test_a_race_on_a_key_takes_effect_once_and_never_ends_as_unavailable(strict: URL) -> None:
    with Bus(make_application(), strict) as bus:
        told: Counter[str] = Counter()
        for key in range(KEYS):
            arguments = {"id": key, "name": f"{key}"}
            ended = together(lambda _, a=arguments, k=key: bus.execute("open_account", a, idempotency_key=f"k{k}"))
            told += Counter("done" if not isinstance(each, Exception) else type(each).__name__ for each in ended)
            assert sum(not isinstance(each, (Exception, ActionInProgress)) and not each.repeated for each in ended) == 1
        assert set(told) <= {"done", ActionInProgress.__name__}, told
        assert query(strict, "SELECT count(*) FROM accounts") == [(KEYS,)]
        assert bus.journal.count(kind="submitted") == bus.journal.count(kind="outcome") == KEYS
    assert query(strict, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_what_is_queued_taken_recovered_and_read_at_once_is_tried_again(strict: URL) -> None:
    """Every other statement of ours, each raced by seven more of its kind."""
    queue = Broker()
    with Bus(make_application(), strict, broker=queue) as bus:
        bus.execute("open_account", {"id": 1, "name": "a"})
        tickets = together(lambda n: bus.runner().execute_async("deposit", {"id": 1, "amount": n + 1}))
        assert not [each for each in tickets if isinstance(each, Exception)]
        taken = together(lambda _: bus.runs.take_due(100, 0.001))
        assert not [each for each in taken if isinstance(each, Exception)]
        for ticket in tickets:
            ended = together(lambda _, t=ticket: (bus.run_queued(t.action_id), bus.runs.get(t.action_id)))
            assert not [each for each in ended if isinstance(each, Exception)]
        assert query(strict, "SELECT balance FROM accounts") == [(sum(range(1, THREADS + 1)),)]
        for _ in range(THREADS):
            connection = psycopg2.connect(dsn(strict))
            connection.cursor().execute(APPEND, (str(uuid4()), "abandoned"))
            connection.commit()
            connection.close()
        recovered = together(lambda _: bus.recover(timedelta(0)))
        assert not [each for each in recovered if isinstance(each, Exception)]
        assert sum(len(each.interrupted) for each in recovered) == THREADS
        read = together(lambda _: (len(list(bus.journal.read())), bus.journal.settled(wait=True)))
        assert len(set(read)) == 1


def test_two_outcomes_for_one_action_at_once_are_one(strict: URL) -> None:
    with Bus(make_application(), strict) as bus:
        for _ in range(KEYS):
            action_id = uuid4()
            row = Row(action_id, "outcome", "x", "c", status="failed")

            def append(_: int, row: Row = row) -> int | None:
                with bus.backend.connection() as connection:
                    return bus.backend.append_alone(connection, row)

            ended = together(append)
            assert not [each for each in ended if isinstance(each, Exception)]
            assert sum(each is not None for each in ended) == 1


def test_an_action_runs_at_its_own_level(strict: URL) -> None:
    CallBack.function = lambda handler: (
        handler.session.connection().exec_driver_sql("SHOW transaction_isolation").scalar()
    )
    try:
        with Bus(make_application(), strict) as bus:
            assert bus.execute("call_back").result == "read committed"
    finally:
        CallBack.function = lambda handler: None


@pytest.mark.parametrize("whose", ["DATABASE", "ROLE"])
def test_a_read_only_default_is_named_before_anything_runs(postgres_url: URL, whose: str) -> None:
    prepared(postgres_url)
    role = f"readonly_{uuid4().hex[:8]}"
    now(postgres_url, f"CREATE ROLE {role} LOGIN SUPERUSER")
    name = postgres_url.database if whose == "DATABASE" else role
    now(postgres_url, f"ALTER {whose} {name} SET default_transaction_read_only = on")
    try:
        with Bus(make_application(), postgres_url.set(username=role), broker=Broker()) as bus:
            for call in (
                lambda: bus.execute("open_account", {"id": 1, "name": "a"}),
                lambda: bus.runner().execute_async("open_account", {"id": 1, "name": "a"}),
                lambda: bus.runner().preview("open_account", {"id": 1, "name": "a"}),
            ):
                with pytest.raises(JournalUnavailable, match="default_transaction_read_only"):
                    call()
            assert list(bus.journal.read()) == []
    finally:
        outside = postgres_url.set(database="postgres")
        now(outside, f"ALTER {whose} {name} RESET default_transaction_read_only")
        now(outside, f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "setting",
    [
        "synchronous_commit = off",
        "default_transaction_deferrable = on",
        "plan_cache_mode = force_custom_plan",
        "enable_seqscan = off",
        "standard_conforming_strings = off",
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = 'sql_standard'",
        "client_encoding = 'LATIN1'",
        "extra_float_digits = 0",
    ],
)
def test_other_defaults_change_nothing(postgres_url: URL, setting: str) -> None:
    prepared(postgres_url)
    now(postgres_url, f"ALTER DATABASE {postgres_url.database} SET {setting}")
    with Bus(make_application(), postgres_url, broker=Broker()) as bus:
        bus.execute("open_account", {"id": 1, "name": "\\' ä \N{SNOWMAN}"}, actor="zoë \N{SNOWMAN}")
        submitted, outcome = bus.journal.read()
        assert (outcome.arguments["name"], outcome.actor) == ("\\' ä \N{SNOWMAN}", "zoë \N{SNOWMAN}")
        assert outcome.started_at
        assert timedelta(0) <= outcome.recorded_at - outcome.started_at < timedelta(hours=1)
        assert submitted.recorded_at <= outcome.recorded_at
        assert [record.position for record in bus.journal.read(since=submitted.recorded_at)] == [1, 2]
