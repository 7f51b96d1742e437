"""What the actions of the hard application do: each at random, on rows of one owner, leaving a mark on what it writes."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.core.history.hard import Document, Employee, Node, Person, Report

LOST = "lost"
"""The mark of what is rolled back: in no image."""


class Lost(Exception):
    """Rolls back what was written."""


class Work:
    """One action's hands."""

    def __init__(self, session: Session, owner: int, seed: int, mark: str) -> None:
        self.session, self.chance, self.mark = session, random.Random(seed), mark
        self.base = owner * 1000
        self.is_sqlite = session.get_bind().dialect.name == "sqlite"

    def some(self, number: int) -> None:
        """That many operations."""
        for _ in range(number):
            self.chance.choice(OPERATIONS)(self)
            self.session.flush()

    def id(self) -> int:
        return self.base + self.chance.randint(1, 12)

    def run(self, sql: str, **values: Any) -> Any:
        self.session.flush()
        done = self.session.execute(
            text(sql), {"m": self.mark, "low": self.base, "i": self.id(), "j": self.id(), **values}
        )
        self.session.expire_all()
        return done

    def hire(self) -> None:
        person = self.session.get(Person, number := self.id())
        if person is None:
            new = Employee(id=number, mark=self.mark, salary=number) if self.chance.random() < 0.5 else None
            self.session.add(new or Person(id=number, mark=self.mark))
            return
        person.mark = self.mark
        if isinstance(person, Employee):
            person.salary += 1

    def write(self) -> None:
        document = self.session.get(Document, number := self.id())
        if document is not None:
            document.mark = self.mark
            return
        author = self.session.get(Person, self.id())
        made = Report(pages=7) if self.chance.random() < 0.5 else Document()
        made.id, made.mark, made.author = number, self.mark, author and author.id
        self.session.add(made)

    def fire(self) -> None:
        if person := self.session.get(Person, self.id()):
            self.session.delete(person)

    def fire_by_hand(self) -> None:
        self.run("DELETE FROM people WHERE id = :i")

    def grow(self) -> None:
        if self.session.get(Node, number := self.id()) is None:
            parent = self.session.get(Node, self.id())
            self.session.add(Node(id=number, parent_id=parent and parent.id, mark=self.mark))

    def cut(self) -> None:
        if node := self.session.get(Node, self.id()):
            self.session.delete(node)

    def cut_by_hand(self) -> None:
        self.run("DELETE FROM nodes WHERE id = :i")

    def join(self) -> None:
        person, node = self.session.get(Person, self.id()), self.session.get(Node, self.id())
        if person and node:
            person.nodes = [*{*person.nodes, node}] if node not in person.nodes else []

    def swap(self) -> None:
        self.run(
            "INSERT INTO slots SELECT :i, :i, :m WHERE NOT EXISTS (SELECT 1 FROM slots WHERE place = :i) "
            "ON CONFLICT (id) DO UPDATE SET mark = excluded.mark"
        )
        if not self.is_sqlite:  # where uniqueness is not deferred
            self.run(
                "UPDATE slots s SET mark = :m, place = (SELECT place FROM slots o WHERE o.id IN (:i, :j) AND o.id <> s.id) "
                "WHERE id IN (:i, :j) AND 2 = (SELECT count(*) FROM slots WHERE id IN (:i, :j))"
            )

    def happen(self) -> None:
        sql = "INSERT INTO events VALUES (:i, :k, :m) ON CONFLICT (id, kind) DO UPDATE SET mark = excluded.mark"
        self.run(sql, k=self.chance.choice("abc"))

    def move(self) -> None:
        self.run(
            "UPDATE events SET kind = :k, mark = :m WHERE id = :i AND NOT EXISTS "
            "(SELECT 1 FROM events e WHERE e.id = :i AND e.kind = :k) "
            "AND kind = (SELECT min(kind) FROM events e WHERE e.id = :i)",
            k=self.chance.choice("abc"),
        )

    def write_to_a_leaf(self) -> None:
        table = "events" if self.is_sqlite else "events_a"
        self.run(f"UPDATE {table} SET mark = :m WHERE id BETWEEN :low AND :i")
        self.run(f"DELETE FROM {table} WHERE id = :j")

    def pair(self) -> None:
        self.run("INSERT INTO pairs VALUES (:i, :j, :m), (:i, :j + 1, :m) ON CONFLICT DO NOTHING")

    def change_keys(self) -> None:
        with suppress(IntegrityError), self.session.begin_nested():
            self.run("UPDATE pairs SET b = b + :by, mark = :m WHERE a = :i", by=self.chance.choice((1, 30)))

    def repeat(self) -> None:
        self.run("INSERT INTO plain VALUES (:i, 'same'), (:i, 'same'), (:i, :m)")
        self.run(
            "UPDATE plain SET id = :j WHERE id = :i AND mark = 'same'"
            if self.chance.random() < 0.5
            else "DELETE FROM plain WHERE id = :j"
        )

    def copy_in(self) -> None:
        cursor = self.session.connection().connection.cursor() if not self.is_sqlite else None
        rows = [(self.id(), self.mark) for _ in range(3)]
        if cursor is None:
            self.session.execute(text("INSERT INTO plain VALUES (:i, :m)"), [{"i": i, "m": m} for i, m in rows])
        else:
            cursor.copy_expert("COPY plain FROM STDIN", StringIO("".join(f"{i}\t{m}\n" for i, m in rows)))

    def lose(self) -> None:
        """In a savepoint that is rolled back."""
        kept, self.mark = self.mark, LOST
        with suppress(Lost), self.session.begin_nested():
            for _ in range(2):
                self.chance.choice(OPERATIONS)(self)
                self.session.flush()
            raise Lost
        self.mark = kept

    def keep(self) -> None:
        with self.session.begin_nested():
            self.chance.choice(OPERATIONS)(self)


OPERATIONS: tuple[Callable[[Work], None], ...] = (
    Work.hire,
    Work.hire,
    Work.write,
    Work.write,
    Work.fire,
    Work.fire_by_hand,
    Work.grow,
    Work.grow,
    Work.cut,
    Work.cut_by_hand,
    Work.join,
    Work.swap,
    Work.happen,
    Work.move,
    Work.write_to_a_leaf,
    Work.pair,
    Work.change_keys,
    Work.repeat,
    Work.copy_in,
    Work.lose,
    Work.keep,
)
