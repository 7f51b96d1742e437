"""What every Store, Broker and Backend has to do, as tests that a new one runs: `class TestMine(StoreContract): ...`.

Each wants a fixture of the same name, which gives what is tested, empty. Public as `actionbus.contracts`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from actionbus.adapters.testing.search_contract import INDEX, MAPPINGS, SearchContract, tombstone, write
from actionbus.core import Broker, BrokerUnavailable, Message
from actionbus.core.internal_errors import CommitConflict
from actionbus.core.storage.backend import Backend, TransactionState
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.names import in_text
from actionbus.core.storage.rows import Row
from actionbus.projections.errors import IndexMissing
from actionbus.projections.search import Search
from actionbus.projections.store import IndexInfo, Store, StoredDocument, Totals


class StoreContract(SearchContract):
    """Of a Store; the fixture `store` gives an empty one."""

    def test_documents_come_back_as_they_went_with_their_versions(self, store: Store, index: str) -> None:
        document = {"title": "Größe 🙂 \0 \"'", "tags": ["a", "b"], "n": 2**53, "yes": False, "kind": None}
        store.write_many(index, [write("k/1 ü", 7, **document), write("2", 8), tombstone("3", 9)])
        assert store.get_many(index, ["k/1 ü", "2", "3", "4"]) == {
            "k/1 ü": StoredDocument(7, document),
            "2": StoredDocument(8, {}),
            "3": StoredDocument(9, None),
        }
        assert store.get("things", "k/1 ü") == document
        assert store.get("things", "3") is None
        assert store.get("things", "4") is None
        store.refresh(index)
        assert store.totals(index) == Totals(documents=2, versions=15, highest=9)
        assert dict(store.scan(index)) == {"k/1 ü": StoredDocument(7, document), "2": StoredDocument(8, {})}
        assert len(dict(store.scan(index, tombstones=True))) == 3
        assert set(store.sample(index, 10)) == {"k/1 ü", "2"}

    def test_only_a_greater_version_is_taken_a_deleted_document_has_one_too(self, store: Store, index: str) -> None:
        store.write_many(index, [write("1", 5, n=5)])
        store.write_many(index, [write("1", 4, n=4), write("2", 4, n=4)])
        store.write_many(index, [write("1", 5, n=0)])
        store.write_many(index, [tombstone("1", 3)])
        assert store.get_many(index, ["1", "2"]) == {"1": StoredDocument(5, {"n": 5}), "2": StoredDocument(4, {"n": 4})}
        store.write_many(index, [tombstone("1", 6)])
        store.write_many(index, [write("1", 5, n=5), write("1", 6, n=6)])
        assert store.get_many(index, ["1"]) == {"1": StoredDocument(6, None)}
        store.write_many(index, [write("1", 7, n=7)])
        assert store.get_many(index, ["1"]) == {"1": StoredDocument(7, {"n": 7})}

    def test_what_mends_takes_the_place_of_its_own_version_and_of_no_later_one(self, store: Store, index: str) -> None:
        store.write_many(index, [write("1", 5, n=5), write("2", 5, n=5), tombstone("3", 5), write("4", 6, n=6)])
        mended = [write("1", 5, n=1), tombstone("2", 5), write("3", 5, n=3), write("4", 5, n=4), write("5", 5, n=5)]
        left_out = store.write_many(index, [each._replace(mends=True) for each in mended])
        assert {each.key for each in left_out} == ({"4"} if store.is_apart else set())
        found = {"1": 1, "2": None, "3": 3, "4": 6, "5": 5}
        stored = store.get_many(index, list(found))
        assert {key: each.document and each.document["n"] for key, each in stored.items()} == found
        assert [each.version for _, each in sorted(stored.items())] == [5, 5, 5, 6, 5]

    def test_many_at_once(self, store: Store, index: str) -> None:
        store.write_many(index, [write(str(number), number + 1, n=number) for number in range(2500)])
        found = store.get_many(index, [str(number) for number in range(2500)])
        assert len(found) == 2500
        assert found["2400"] == StoredDocument(2401, {"n": 2400})
        store.refresh(index)
        assert sum(1 for _ in store.scan(index)) == 2500
        assert store.totals(index) == Totals(documents=2500, versions=2500 * 2501 // 2, highest=2500)

    def test_an_index_is_created_once_and_tells_what_it_is(self, store: Store, index: str) -> None:
        store.create_index(INDEX, MAPPINGS, {}, loading=False)
        assert store.info(index) == INDEX
        store.set_pruned_to(index, 12)
        assert store.info(index).pruned_to == 12
        assert store.info(index).journal == "journal-1"
        assert store.indices("things") == [index]
        store.delete_index(index)
        store.delete_index(index)
        assert store.indices("things") == []
        with pytest.raises(IndexMissing):
            store.info(index)

    def test_a_missing_index_is_never_conjured_up(self, store: Store, index: str) -> None:
        for action in (
            lambda: store.write_many("things-v1-actionbus-gone", [write("1", 1)]),
            lambda: store.get_many("things-v1-actionbus-gone", ["1"]),
            lambda: store.get("nothing", "1"),
            lambda: store.search("nothing", Search("x")),
            lambda: store.point_alias("things", "things-v1-actionbus-gone"),
        ):
            with pytest.raises(IndexMissing):
                action()
        assert store.indices("things") == [index]
        assert store.aliased("things") == index
        assert store.aliased("nothing") is None

    def test_loading_and_the_swap_of_an_alias(self, store: Store, index: str) -> None:
        other = IndexInfo("things-v2-actionbus-b", "things", 2, "journal-1")
        store.create_index(other, MAPPINGS, {}, loading=True)
        store.write_many(index, [write("1", 1, n=1)])
        store.write_many(other.name, [write("1", 1, n=2), tombstone("2", 2)])
        store.finish_loading(other.name)
        store.point_alias("things", other.name)
        assert store.aliased("things") == other.name
        assert store.get("things", "1") == {"n": 2}
        assert store.search("things", Search()).total == 1
        store.point_alias("things", index)
        store.refresh(index)
        assert [hit.document for hit in store.search("things", Search()).hits] == [{"n": 1}]

    def test_old_tombstones_are_cleared(self, store: Store, index: str) -> None:
        store.write_many(
            index,
            [
                tombstone("1", 1),
                tombstone("2", 2),
                tombstone("3", 3, "2026-06-01T00:00:00+00:00"),
                tombstone("4", 40),
                write("5", 1),
            ],
        )
        assert store.greatest_tombstone(index, 10, "2026-03-01T00:00:00+00:00") == 2
        assert store.clear_tombstones(index, 10, "2026-03-01T00:00:00+00:00") == 2
        assert set(store.get_many(index, ["1", "2", "3", "4", "5"])) == {"3", "4", "5"}
        assert store.greatest_tombstone(index, 0, "2026-03-01T00:00:00+00:00") == 0


class BrokerContract:
    """Of a Broker. `broker` gives one, `arrived` waits for so many ids and gives those that workers would get.

    `away` gives one whose broker cannot be reached.
    """

    def test_what_is_published_arrives(self, broker: Broker, arrived: Callable[[int], set[UUID]]) -> None:
        sent = Message(uuid4(), "greet", "actions")
        broker.publish(sent)
        assert arrived(1) == {sent.action_id}

    def test_nothing_is_lost_among_threads(self, broker: Broker, arrived: Callable[[int], set[UUID]]) -> None:
        sent = [Message(uuid4(), "greet", "actions") for _ in range(40)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(broker.publish, sent))
        assert arrived(40) == {each.action_id for each in sent}

    def test_a_broker_that_is_away_is_said_so(self, away: Broker) -> None:
        with pytest.raises(BrokerUnavailable):
            away.publish(Message(uuid4(), "greet", "actions"))

    def test_times_are_possible(self, broker: Broker) -> None:
        assert broker.redeliver_after > 0
        assert broker.attempts >= 1


def submitted(action_id: UUID, **more: Any) -> Row:
    """A submitted record to append."""
    return Row(action_id=action_id, kind="submitted", action="greet", correlation_id="c", arguments="{}", **more)


def succeeded(action_id: UUID) -> Row:
    """Its outcome."""
    return Row(action_id=action_id, kind="outcome", status="succeeded", action="greet", correlation_id="c")


class BackendContract:
    """Of a Backend; the fixture `backend` gives one whose database has a journal, and nothing in it."""

    @pytest.fixture
    def table(self, backend: Backend) -> str:
        with backend.engine.begin() as connection:
            connection.execute(text("CREATE TABLE greetings (id integer PRIMARY KEY)"))
        return "greetings"

    def positions(self, backend: Backend, kind: str) -> list[int]:
        wanted = text(f"SELECT position FROM {in_text(backend.journal_name)} WHERE kind = :kind ORDER BY 1")
        return backend.read(lambda connection: list(connection.execute(wanted, {"kind": kind}).scalars()))

    def greetings(self, backend: Backend) -> list[int]:
        return backend.read(lambda connection: list(connection.execute(text("SELECT id FROM greetings")).scalars()))

    def run(self, backend: Backend, action_id: UUID, greeting: int) -> int:
        """Run an action that writes one row; its outcome's position."""
        with backend.connection() as connection:
            backend.append_submitted(connection, submitted(action_id), durable=False)
            backend.begin(connection, "READ COMMITTED", action_id)
            driver_connection(connection).cursor().execute(f"INSERT INTO greetings VALUES ({greeting})")
            return backend.finish(connection, None, [succeeded(action_id)], action_id)

    @pytest.mark.parametrize("durable", [True, False])
    def test_what_was_asked_is_committed_at_once(self, backend: Backend, durable: bool) -> None:
        with backend.connection() as connection:
            appended = backend.append_submitted(connection, submitted(uuid4()), durable=durable)
            assert appended is not None
            assert backend.state(driver_connection(connection)) is TransactionState.NONE
        assert self.positions(backend, "submitted") == [appended.position]

    def test_writes_and_outcome_are_one_transaction(self, backend: Backend, table: str) -> None:
        position = self.run(backend, uuid4(), 7)
        assert self.positions(backend, "outcome") == [position]
        assert self.greetings(backend) == [7]

    def test_what_is_rolled_back_was_not(self, backend: Backend, table: str) -> None:
        action_id = uuid4()
        with backend.connection() as connection:
            backend.append_submitted(connection, submitted(action_id), durable=False)
            backend.begin(connection, "READ COMMITTED", action_id)
            driver_connection(connection).cursor().execute("INSERT INTO greetings VALUES (7)")
            assert backend.state(driver_connection(connection)) is TransactionState.OPEN
            assert backend.is_still(connection, action_id)
            backend.rollback(connection)
            assert backend.state(driver_connection(connection)) is TransactionState.NONE
            assert backend.append_alone(connection, succeeded(action_id)) is not None
        assert self.greetings(backend) == []

    def test_an_action_has_one_outcome(self, backend: Backend, table: str) -> None:
        action_id = uuid4()
        first = self.run(backend, action_id, 7)
        with backend.connection() as connection:
            backend.begin(connection, "READ COMMITTED", action_id)
            driver_connection(connection).cursor().execute("INSERT INTO greetings VALUES (8)")
            with pytest.raises(CommitConflict):
                backend.finish(connection, None, [succeeded(action_id)], action_id)
            backend.rollback(connection)
            assert backend.append_alone(connection, succeeded(action_id)) is None
        assert self.positions(backend, "outcome") == [first]
        assert self.greetings(backend) == [7]

    def test_an_action_or_a_key_is_submitted_once(self, backend: Backend) -> None:
        action_id = uuid4()
        with backend.connection() as connection:
            for one in (submitted(action_id, idempotency_key="k"), submitted(uuid4(), idempotency_key="k")):
                appended = backend.append_submitted(connection, one, durable=False)
                assert (appended is None) == (one.action_id != action_id)
            backend.release(connection, action_id)
            assert backend.append_submitted(connection, submitted(action_id), durable=False) is None
        assert len(self.positions(backend, "submitted")) == 1

    def test_the_lock_of_an_action_is_had_by_one_and_ends_with_its_connection(self, backend: Backend) -> None:
        action_id = uuid4()
        with backend.connection() as connection:
            backend.append_submitted(connection, submitted(action_id), durable=False)
            with ThreadPoolExecutor(1) as other:
                assert not other.submit(self._claims, backend, action_id).result()
        assert self._claims(backend, action_id)

    def _claims(self, backend: Backend, action_id: UUID) -> bool:
        with backend.connection() as connection:
            return backend.claim(connection, action_id)
