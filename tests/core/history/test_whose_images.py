"""A changed row is told to be the very action's that changed it: nested ones too, whatever became of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from actionbus import Bus
from tests.conftest import BusFactory, query
from tests.processes import CONTEXT
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Account, Base, make_application

RANGES = (
    "SELECT kind, action, status, images_after, images_upto FROM journal WHERE kind <> 'submitted' ORDER BY position"
)


def add(handler: Any, number: int) -> None:
    handler.session.add(Account(id=number, name=str(number)))


def ranges(bus: Bus) -> list[tuple[Any, ...]]:
    return query(bus.engine.url, RANGES)


@pytest.fixture
def shop(make_sqlite_bus: BusFactory) -> Bus:
    bus = make_sqlite_bus()
    bus.create()
    return bus


def nested(inner: Callable[[Any], None], outer: Callable[[Any], None]) -> Callable[[Any], None]:
    """A function for `call_back`: it is `outer` at the top, `inner` below."""
    return lambda handler: inner(handler) if handler.args.n else outer(handler)


class TestRanges:
    """SQLite: the images of an outcome lie between two numbers."""

    def test_of_one_action_after_another(self, shop: Bus) -> None:
        shop.execute("open_account", {"id": 1, "name": "a"})
        shop.execute("deposit", {"id": 1, "amount": 5})
        shop.execute("call_back")
        assert [row[3:] for row in ranges(shop)] == [(0, 1), (1, 3), (3, 3)]

    def test_of_a_nested_action_lie_inside(self, shop: Bus) -> None:
        def outer(handler: Any) -> None:
            add(handler, 1)  # not flushed yet: it is the outer action's all the same
            handler.runner.execute("call_back", {"n": 1})
            add(handler, 3)

        CallBack.function = nested(lambda handler: add(handler, 2), outer)
        shop.execute("call_back")
        assert [row[3:] for row in ranges(shop)] == [(1, 2), (0, 3)]

    @pytest.mark.parametrize("rolled_back", ["by itself", "with a savepoint of the handler's"])
    def test_of_one_that_was_rolled_back_are_empty(self, shop: Bus, rolled_back: str) -> None:
        def inner(handler: Any) -> None:
            add(handler, 2)
            handler.session.flush()
            if rolled_back == "by itself":
                raise RuntimeError

        def outer(handler: Any) -> None:
            try:
                with handler.session.begin_nested():
                    handler.runner.execute("call_back", {"n": 1})
                    raise RuntimeError
            except RuntimeError:
                add(handler, 3)

        CallBack.function = nested(inner, outer)
        shop.execute("call_back")
        (_, _, status, after, upto), top = ranges(shop)
        assert (status, upto - after, top[3:]) == ("failed", 0, (0, 1))

    def test_a_failed_action_leaves_no_image(self, shop: Bus) -> None:
        def fail(handler: Any) -> None:
            add(handler, 1)
            handler.session.flush()
            raise RuntimeError

        CallBack.function = fail
        with pytest.raises(RuntimeError):
            shop.execute("call_back")
        assert ranges(shop) == [("outcome", "call_back", "failed", 0, 0)]
        assert query(shop.engine.url, "SELECT count(*) FROM actionbus_images") == [(0,)]


class TestBypass:
    """SQLite: the first action after somebody wrote past the gateway gives him a record."""

    @pytest.fixture
    def client(self, shop: Bus) -> sqlite3.Connection:
        return sqlite3.connect(str(shop.engine.url.database), isolation_level=None)

    @pytest.mark.parametrize("action", ["open_account", "call_back"])
    def test_comes_before_the_actions_own_outcome(self, shop: Bus, client: sqlite3.Connection, action: str) -> None:
        client.execute("INSERT INTO accounts VALUES (7, 'seven', 0), (8, 'eight', 0)")
        CallBack.function = lambda handler: None
        shop.execute(action, {"id": 1, "name": "a"} if action == "open_account" else {})
        bypass, own = ranges(shop)
        assert (bypass[0], bypass[3:]) == ("bypass", (0, 2))
        assert own[3] == 2
        record = next(each for each in shop.journal.read() if each.kind == "bypass")
        assert (record.action, record.actor, record.status) == ("", None, None)
        assert record.correlation_id == str(record.action_id)
        assert set(record.context or {}) == {"from", "to"}

    def test_a_failed_action_in_between_does_not_cover_it(self, shop: Bus, client: sqlite3.Connection) -> None:
        client.execute("INSERT INTO accounts VALUES (7, 'seven', 0)")
        with pytest.raises(Exception, match="there is such an account"):
            shop.execute("open_account", {"id": 7, "name": "a"})
        shop.execute("open_account", {"id": 1, "name": "a"})
        assert [row[:1] + row[3:] for row in ranges(shop)] == [("outcome", 0, 0), ("bypass", 0, 1), ("outcome", 1, 2)]

    def test_each_image_has_one_record(self, shop: Bus, client: sqlite3.Connection) -> None:
        for number in range(1, 9, 2):
            client.execute("INSERT INTO accounts VALUES (?, ?, 0)", (number, str(number)))
            shop.execute("open_account", {"id": number + 1, "name": str(number + 1)})
        covered = [image for *_, after, upto in ranges(shop) for image in range(after + 1, upto + 1)]
        assert covered == list(range(1, 9))


def write(url: str, number: int) -> None:
    """Actions, and writes past the gateway between them."""
    with Bus(make_application(), url) as bus:
        client = sqlite3.connect(str(bus.engine.url.database), isolation_level=None, timeout=60)
        for each in range(number, number + 40, 2):
            bus.execute("open_account", {"id": each, "name": f"action {each}"})
            client.execute("INSERT INTO accounts VALUES (?, ?, 0)", (each + 1, f"client {each + 1}"))
        client.close()


def test_several_processes_each_have_their_own(shop: Bus) -> None:
    url = shop.engine.url.render_as_string()
    processes = [CONTEXT.Process(target=write, args=(url, number * 100)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    shop.execute("call_back")
    whose = {image: kind for kind, _, _, after, upto in ranges(shop) for image in range(after + 1, upto + 1)}
    written = query(shop.engine.url, "SELECT image, n2 FROM actionbus_images")
    assert len(whose) == len(written) == 120
    expected = {"action": "outcome", "client": "bypass"}
    assert {image: expected[name.split()[0]] for image, name in written} == whose


class TestNamed:
    """PostgreSQL: a setting names the action, nested ones while they run."""

    @pytest.fixture
    def named(self, make_postgres_bus: BusFactory) -> Callable[[Callable[[Any], None]], list[Any]]:
        bus = make_postgres_bus()

        def run(outer: Callable[[Any], None], inner: Callable[[Any], None] = told) -> list[Any]:
            CallBack.function = nested(inner, outer)
            names.clear()
            bus.execute("call_back")
            ids = {record.action_id.hex: record.cause_id for record in bus.journal.read()}
            return ["nested" if ids[name] else "outer" for name in names]

        return run

    def test_while_it_runs_and_no_longer(self, named: Any) -> None:
        def outer(handler: Any) -> None:
            told(handler)
            handler.runner.execute("call_back", {"n": 1})
            told(handler)

        assert named(outer) == ["outer", "nested", "outer"]

    def test_one_that_fails(self, named: Any) -> None:
        def inner(handler: Any) -> None:
            told(handler)
            raise RuntimeError

        def outer(handler: Any) -> None:
            with pytest.raises(RuntimeError):
                handler.runner.execute("call_back", {"n": 1})
            told(handler)

        assert named(outer, inner) == ["nested", "outer"]

    def test_among_savepoints_that_were_not_used_before(self, named: Any) -> None:
        def inner(handler: Any) -> None:
            with handler.session.begin_nested():
                told(handler)

        def outer(handler: Any) -> None:
            with handler.session.begin_nested():
                handler.runner.execute("call_back", {"n": 1})
                told(handler)

        assert named(outer, inner) == ["nested", "outer"]

    def test_what_a_deferred_trigger_writes_is_the_action_s(self, make_postgres_bus: BusFactory) -> None:
        bus = make_postgres_bus()
        bus.create()
        note = "INSERT INTO entries (account_id, amount) VALUES (NEW.id, 7)"
        with bus.engine.begin() as connection:
            connection.exec_driver_sql(
                f"CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {note}; RETURN NULL; END$$; "
                "CREATE CONSTRAINT TRIGGER noted AFTER INSERT ON accounts DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION noted()"
            )
        done = bus.execute("open_account", {"id": 1, "name": "a"}, actor="ann")
        found = bus.history.changes(done.action_id).changes
        assert [each.table for each in found] == ["public.accounts", "public.entries"]
        at = bus.journal.settled()
        bus.execute("open_account", {"id": 2, "name": "b"}, actor="ann")
        assert len(bus.history.state("entries", at).tables["public.entries"]) == 1


names: list[str] = []


def told(handler: Any) -> None:
    names.append(handler.session.execute(text("SELECT current_setting('actionbus.action')")).scalar_one())


def test_create_makes_all_there_is_not_and_leaves_out_what_is_declared(sqlite_url: Any) -> None:
    application = make_application()
    application.unrecorded = ("entries",)
    with Bus(application, sqlite_url) as bus:
        bus.create()
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "a"})
        bus.execute("deposit", {"id": 1, "amount": 1})
        assert query(sqlite_url, "SELECT table_name FROM actionbus_shapes") == [("accounts",)]
        assert query(sqlite_url, "SELECT operation FROM actionbus_images") == [("i",), ("u",)]
        assert set(Base.metadata.tables) == {"accounts", "entries"}
