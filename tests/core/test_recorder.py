"""What an outcome notes of the rows that it touched: one case per way in which SQLAlchemy writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from actionbus import Bus
from tests.conftest import BusFactory
from tests.shop.actions.call_back import CallBack


class Base(DeclarativeBase):
    metadata = MetaData()


tagging = Table(
    "tagging",
    Base.metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("label_id", ForeignKey("labels.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String)
    n: Mapped[int] = mapped_column(default=7)
    state: Mapped[str] = mapped_column(server_default="new")
    changes: Mapped[int | None] = mapped_column(onupdate=1)
    labels: Mapped[list[Label]] = relationship(secondary=tagging)


pairs = Table(
    "pairs",
    Base.metadata,
    Column("a", Integer, primary_key=True),
    Column("b", Integer, primary_key=True),
    Column("v", Integer),
)
parents = Table("parents", Base.metadata, Column("id", Integer, primary_key=True))
children = Table(
    "children",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("parent_id", ForeignKey("parents.id", ondelete="CASCADE")),
)
keyless = Table("keyless", Base.metadata, Column("v", Integer))


@pytest.fixture
def recorded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Session], Any]], Any]]:
    """Runs a function on an action's session; what the outcome notes."""
    Base.metadata.create_all(bus.engine)
    with bus.engine.begin() as connection:
        connection.execute(insert(Item), [{"id": i, "name": f"i{i}", "n": i} for i in (1, 2, 3)])
        connection.execute(insert(Label), [{"id": 1}, {"id": 2}])
        connection.execute(insert(pairs), [{"a": 1, "b": 2, "v": 0}, {"a": 1, "b": 3, "v": 0}])
        connection.execute(insert(parents), [{"id": 1}])
        connection.execute(insert(children), [{"id": 1, "parent_id": 1}])
        if bus.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT setval('items_id_seq', 10)"))
        else:
            connection.execute(text("INSERT INTO items (id, n) VALUES (10, 0)"))

    def run(function: Callable[[Session], Any]) -> Any:
        monkeypatch.setattr(CallBack, "function", lambda handler: function(handler.session) and None)
        record = bus.journal.get(bus.execute("call_back").action_id)
        assert record
        return record.touched

    yield run
    Base.metadata.drop_all(bus.engine)


def rows(touched: Any) -> list[tuple[Any, ...]]:
    """(operation, table, key, columns) of every row."""
    return [
        (r["op"], r["table"], tuple(r["key"]), tuple(r.get("columns", ()))) for r in (touched or {}).get("rows", [])
    ]


def loaded(session: Session, key: int) -> Item:
    return session.get_one(Item, key)


WHOLE = ("changes", "id", "n", "name", "state")
GIVEN = ("id", "n", "name", "state")


def add(session: Session) -> None:
    session.add(Item(id=20, name="x"))
    session.flush()


def add_with_generated_key(session: Session) -> None:
    session.add(Item(name="x"))
    session.flush()


def add_many(session: Session) -> None:
    session.add_all([Item(name="x"), Item(name="y")])
    session.flush()


def change(session: Session) -> None:
    loaded(session, 1).name = "new"
    session.flush()


def change_by_expression(session: Session) -> None:
    loaded(session, 1).n = Item.n + 5
    session.flush()


def remove(session: Session) -> None:
    session.delete(loaded(session, 1))
    session.flush()


def link(session: Session) -> None:
    loaded(session, 1).labels = [session.get_one(Label, 1), session.get_one(Label, 2)]
    session.flush()


def unlink(session: Session) -> None:
    link(session)
    session.expire_all()
    loaded(session, 1).labels = []
    session.flush()


def upsert(session: Session) -> None:
    kind = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = kind(Item).values([{"id": 1, "name": "up", "n": 0}, {"id": 21, "name": "up", "n": 0}])
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"name": statement.excluded.name}))


def insert_unless_there(session: Session) -> None:
    kind = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(kind(Item).values(id=1, name="up", n=0).on_conflict_do_nothing())


def roll_a_part_back(session: Session) -> None:
    with pytest.raises(KeyError), session.begin_nested():
        session.execute(insert(Item).values(id=30, name="gone"))
        raise KeyError
    session.execute(insert(Item).values(id=31, name="kept"))


def returning_all(session: Session) -> None:
    found = session.execute(update(Item).where(Item.n > 1).values(name="r").returning(Item.id, Item.name)).all()
    assert sorted((row.id, row.name) for row in found) == [(2, "r"), (3, "r")]


def returning_objects(session: Session) -> None:
    found = session.scalars(insert(Item).returning(Item), [{"name": "a", "n": 1}, {"name": "b", "n": 1}]).all()
    assert sorted(item.name or "" for item in found) == ["a", "b"]


def update_where(session: Session) -> None:
    result = session.execute(update(Item).where(Item.n >= 2).values(name="w"))
    assert result.rowcount == 2  # type: ignore[attr-defined]


def update_where_the_server_decides(session: Session) -> None:
    item = loaded(session, 1)
    session.execute(update(Item).where(func.lower(Item.name) == "i1").values(name="w", n=Item.n + 1))
    session.execute(update(Item).where(Item.n == 2).values(n=40), execution_options={"synchronize_session": "fetch"})
    assert (item.name, item.n) == ("w", 40)


def delete_where(session: Session) -> None:
    assert session.execute(delete(Item).where(Item.n >= 2)).rowcount == 2  # type: ignore[attr-defined]


CASES: list[tuple[Callable[[Session], Any], list[tuple[Any, ...]]]] = [
    (add, [("insert", "items", (20,), WHOLE)]),
    (add_with_generated_key, [("insert", "items", (11,), WHOLE)]),
    (add_many, [("insert", "items", (11,), WHOLE), ("insert", "items", (12,), WHOLE)]),
    (change, [("update", "items", (1,), ("changes", "name"))]),
    (change_by_expression, [("update", "items", (1,), ("changes", "n"))]),
    (remove, [("delete", "items", (1,), ())]),
    (link, [("insert", "tagging", (1, k), ("item_id", "label_id")) for k in (1, 2)]),
    (
        unlink,
        [
            *[("insert", "tagging", (1, k), ("item_id", "label_id")) for k in (1, 2)],
            *[("delete", "tagging", (1, k), ()) for k in (1, 2)],
        ],
    ),
    (lambda s: s.bulk_save_objects([Item(id=22, name="b")]), [("insert", "items", (22,), GIVEN)]),
    (lambda s: s.bulk_insert_mappings(Item, [{"name": "b"}, {"name": "c"}]),  # type: ignore[arg-type]
     [("insert", "items", (11,), GIVEN), ("insert", "items", (12,), GIVEN)]),
    (lambda s: s.bulk_update_mappings(Item, [{"id": 1, "n": 9}, {"id": 2, "n": 9}]),  # type: ignore[arg-type]
     [("update", "items", (1,), ("changes", "n")), ("update", "items", (2,), ("changes", "n"))]),
    (lambda s: s.execute(insert(Item), [{"name": "p"}, {"name": "q"}]),
     [("insert", "items", (11,), GIVEN), ("insert", "items", (12,), GIVEN)]),
    (lambda s: s.execute(insert(Item.__table__), [{"name": "p"}, {"name": "q"}]),
     [("insert", "items", (11,), GIVEN), ("insert", "items", (12,), GIVEN)]),
    (lambda s: s.execute(insert(Item.__table__).values(name="p")), [("insert", "items", (11,), GIVEN)]),
    (lambda s: s.execute(insert(Item.__table__).values([{"name": "p", "n": 1}, {"name": "q", "n": 1}])),
     [("insert", "items", (11,), WHOLE), ("insert", "items", (12,), WHOLE)]),
    (lambda s: s.execute(insert(Item.__table__).from_select(["name", "n"], select(Item.name, Item.n).where(Item.id == 1))),
     [("insert", "items", (11,), WHOLE)]),
    (lambda s: s.execute(update(Item).where(Item.id == 1).values(name="k")), [("update", "items", (1,), ("changes", "name"))]),
    (lambda s: s.execute(update(Item).where(Item.id == 99).values(name="k")), []),
    (lambda s: s.execute(update(pairs).where(pairs.c.a == 1, pairs.c.b == 3).values(v=func.abs(-4))),
     [("update", "pairs", (1, 3), ("v",))]),
    (lambda s: s.execute(update(pairs).where(pairs.c.a == 1).values(v=5)),
     [("update", "pairs", (1, 2), ("v",)), ("update", "pairs", (1, 3), ("v",))]),
    (lambda s: s.execute(update(Item), [{"id": 1, "n": 4}, {"id": 3, "n": 4}]),
     [("update", "items", (1,), ("changes", "n")), ("update", "items", (3,), ("changes", "n"))]),
    (update_where, [("update", "items", (2,), ("changes", "name")), ("update", "items", (3,), ("changes", "name"))]),
    (update_where_the_server_decides,
     [("update", "items", (1,), ("changes", "n", "name")), ("update", "items", (1,), ("changes", "n")),
      ("update", "items", (2,), ("changes", "n"))]),
    (delete_where, [("delete", "items", (2,), ()), ("delete", "items", (3,), ())]),
    (lambda s: s.execute(delete(pairs).where(pairs.c.a == 1, pairs.c.b == 2)), [("delete", "pairs", (1, 2), ())]),
    (upsert, [("upsert", "items", (1,), WHOLE), ("upsert", "items", (21,), WHOLE)]),
    (insert_unless_there, []),
    (roll_a_part_back, [("insert", "items", (31,), GIVEN)]),
    (returning_all, [("update", "items", (2,), ("name",)), ("update", "items", (3,), ("name",))]),
    (returning_objects, [("insert", "items", (11,), WHOLE), ("insert", "items", (12,), WHOLE)]),
    (lambda s: s.execute(text("SELECT 1")), []),
    (lambda s: s.execute(select(Item).with_for_update()).all(), []),
]  # fmt: skip


@pytest.mark.parametrize(("write", "expected"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_rows_are_noted(recorded: Any, write: Any, expected: list[Any]) -> None:
    touched = recorded(write)
    assert sorted(rows(touched)) == sorted(expected)
    assert "incomplete" not in (touched or {})


INCOMPLETE: list[tuple[Callable[[Session], Any], str]] = [
    (lambda s: s.execute(text("UPDATE items SET n = 1")), "raw SQL"),
    (lambda s: s.connection().exec_driver_sql("DELETE FROM items WHERE id = 1"), "raw SQL"),
    (lambda s: s.execute(text("WITH x AS (SELECT 1) UPDATE items SET n = 1")), "raw SQL"),
    (lambda s: s.execute(insert(keyless).values(v=1)), "no primary key"),
    (lambda s: s.execute(delete(parents).where(parents.c.id == 1)), "cascade from parents to children"),
    (lambda s: s.execute(update(Item).where(Item.id == 2).values(name="x").returning(Item.name)).all(), "leaves out the key"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "why"), INCOMPLETE)
def test_what_cannot_be_known_is_said(recorded: Any, write: Any, why: str) -> None:
    assert any(why in each for each in recorded(write)["incomplete"])


def test_a_trigger_on_a_table_is_said(recorded: Any, bus: Bus) -> None:
    with bus.engine.begin() as connection:
        _add_trigger(connection)
    touched = recorded(lambda s: s.execute(insert(pairs).values(a=5, b=5, v=1)))
    assert rows(touched) == [("insert", "pairs", (5, 5), ("a", "b", "v"))]
    assert any("trigger" in why for why in touched["incomplete"])


def _add_trigger(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("CREATE TRIGGER t AFTER INSERT ON pairs BEGIN UPDATE items SET n = 0; END")
        return
    connection.exec_driver_sql("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    connection.exec_driver_sql("CREATE TRIGGER t AFTER INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION f()")


def test_generated_values_are_kept(recorded: Any) -> None:
    touched = recorded(add_with_generated_key)
    assert touched["rows"][0]["generated"] == {"id": 11, "n": 7, "state": "new"}


def test_one_statement_with_other_columns_each_time(recorded: Any) -> None:
    statement = insert(Item.__table__)
    for given in ({"id": 40, "state": "old"}, {"name": "x"}, {"id": 60}):
        touched = recorded(lambda s, given=given: s.execute(statement, given))
        row = touched["rows"][0]
        assert set(row["generated"]) == {"id", "n", "state"} - set(given)
        assert "incomplete" not in touched


def test_values_that_the_author_gave_are_not_called_generated(recorded: Any) -> None:
    touched = recorded(lambda s: s.execute(insert(Item.__table__).values([{"id": 50, "n": 1}, {"id": 51, "n": 1}])))
    assert [set(row["generated"]) for row in touched["rows"]] == [{"state"}] * 2


def test_the_digest_tells_values_apart(recorded: Any) -> None:
    one = recorded(lambda s: s.execute(update(Item).where(Item.id == 1).values(n=1)))
    other = recorded(lambda s: s.execute(update(Item).where(Item.id == 1).values(n=2)))
    again = recorded(lambda s: s.execute(update(Item).where(Item.id == 1).values(n=1)))
    digests = [touched["rows"][0]["digest"] for touched in (one, other, again)]
    assert digests[0] == digests[2] != digests[1]


def test_beyond_the_limit_it_says_so(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from actionbus import Limits
    from tests.shop.app import Account, make_application

    bus = make_bus(make_application(limits=Limits(touched_rows=3)))
    monkeypatch.setattr(
        CallBack, "function", lambda h: h.session.add_all([Account(id=i, name=str(i)) for i in range(1, 6)])
    )
    touched = bus.journal.get(bus.execute("call_back").action_id).touched or {}  # type: ignore[union-attr]
    assert len(touched["rows"]) == 3
    assert touched["incomplete"] == ["more than 3 rows"]
