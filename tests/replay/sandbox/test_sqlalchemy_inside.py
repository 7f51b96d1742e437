"""Canaries: what `replay.sandbox.sqlalchemy_inside` takes from SQLAlchemy's private parts is still there, and means the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, create_engine, func, insert, literal, update
from sqlalchemy.dialects.sqlite import insert as upsert

from actionbus.replay.sandbox import sqlalchemy_inside as inside

CHANCE = iter("abcdefgh")
NOTES = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("text", String, server_default="x"),
    Column("mark", String, default=lambda: next(CHANCE), onupdate=lambda: next(CHANCE)),
    Column("kind", String, default="k"),
)


def test_values_of_an_insert_by_key() -> None:
    assert inside.plain(inside.single_of(insert(NOTES).values({NOTES.c.text: "a"}))["text"]) == "a"
    assert inside.single_of(insert(NOTES)) == {}
    several = inside.rows_of(insert(NOTES).values([{"text": "a"}, {"text": "b"}]))
    assert [inside.plain(row["text"]) for row in several] == ["a", "b"]
    assert inside.rows_of(insert(NOTES).values(text="a")) == []


def test_values_are_replaced_under_the_name_that_they_have() -> None:
    for given in ({NOTES.c.text: "a"}, {"text": "a"}):
        changed = inside.with_values(insert(NOTES).values(given), {"text": "b", "id": 3})
        assert {name: inside.plain(value) for name, value in inside.single_of(changed).items()} == {
            "text": "b",
            "id": 3,
        }
    several = inside.with_rows(insert(NOTES).values([{"text": "a"}, {"text": "b"}]), [{"text": "c"}])
    assert [inside.plain(row["text"]) for row in inside.rows_of(several)] == ["c"]


def test_an_upsert_is_told_from_an_insert() -> None:
    assert inside.may_conflict(upsert(NOTES).on_conflict_do_nothing())
    assert not inside.may_conflict(upsert(NOTES))
    assert not inside.may_conflict(insert(NOTES))


def test_what_is_an_expression() -> None:
    assert inside.is_expression(func.now())
    assert not inside.is_expression(literal(1))
    assert not inside.is_expression("now()")


def test_what_is_computed_is_asked_back_and_defaults_are_told() -> None:
    engine = create_engine("sqlite://")
    told: list[tuple[list[Any], list[Any]]] = []

    def change(context: Any) -> None:
        inserts, updates = inside.made_of_inserts(context), inside.made_of_updates(context)
        told.append(([column.name for column, _ in inserts], [column.name for column, _ in updates]))
        for _, name in inserts:
            context.compiled_parameters[0][name] = "changed"

    inside.tell_defaults(engine, change)
    with engine.begin() as connection:
        NOTES.create(connection)
        statement = insert(NOTES).values(text=inside.computed(bindparam("given"))).return_defaults(NOTES.c.text)
        done = connection.execute(statement, {"given": "given"})
        assert done.returned_defaults is not None
        assert done.returned_defaults.text == "given"
        assert done.last_inserted_params()["mark"] == "changed"
        connection.execute(update(NOTES).values(text="b"))
        assert told == [(["mark"], []), ([], ["mark"])]
        nested = connection.begin_nested()
        assert inside.name_of(nested).startswith("sa_savepoint_")
        nested.commit()
    engine.dispose()
