"""A hard application: inheritance, a tree, cascades of both kinds, triggers of its own, deferred checks, partitions.

Each process that works on it has ids of its own, from `owner * 1000` on, so that an action can tell from copies before
and after what it wrote, though others write meanwhile. Used by `test_hard_application.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import DDL, Column, Computed, ForeignKey, Integer, String, Table, UniqueConstraint, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from actionbus import Application
from tests.core.history.deploying import exact


class Base(DeclarativeBase):
    """Its metadata."""


class Person(Base):
    """One that may be an employee, in a table more."""

    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    mark: Mapped[str | None]
    nodes: Mapped[list[Node]] = relationship(secondary="members")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Employee(Person):
    """With a salary, and what it comes to."""

    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    salary: Mapped[int]
    twice: Mapped[int] = mapped_column(Computed("salary * 2", persisted=True))
    __mapper_args__ = {"polymorphic_identity": "employee"}


class Document(Base):
    """Two kinds in one table; its author may go."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    mark: Mapped[str | None]
    author: Mapped[int | None] = mapped_column(ForeignKey("people.id", ondelete="SET NULL"))
    version: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "note"}


class Report(Document):
    """With pages."""

    pages: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "report"}


class Node(Base):
    """Of a tree."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"))
    mark: Mapped[str | None]
    children: Mapped[list[Node]] = relationship(cascade="all, delete-orphan")


Table(
    "members",
    Base.metadata,
    Column("person_id", ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
)
Table("tallies", Base.metadata, Column("id", Integer, primary_key=True, autoincrement=False), Column("nodes", Integer))
SLOTS: Final = Table(
    "slots",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("place", Integer),
    Column("mark", String),
)
SLOTS.append_constraint(UniqueConstraint("place", deferrable=True, initially="DEFERRED").ddl_if(dialect="postgresql"))
EVENTS: Final = Table(
    "events",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, primary_key=True),
    Column("mark", String),
    postgresql_partition_by="LIST (kind)",
)
Table(
    "pairs",
    Base.metadata,
    Column("a", Integer, primary_key=True, autoincrement=False),
    Column("b", Integer, primary_key=True, autoincrement=False),
    Column("mark", String),
)
Table("plain", Base.metadata, Column("id", Integer), Column("mark", String))
Table("audit", Base.metadata, Column("id", Integer), Column("mark", String))
Table(
    "shared",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer),
    Column("mark", String),
)

OWN: Final = ("people", "employees", "documents", "nodes", "members", "tallies", "slots", "events", "pairs", "plain")
"""Tables that a process has rows of its own in. `audit` is written when constraints are checked, `shared` by all."""
_POSTGRESQL: Final = """
CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');
CREATE TABLE events_b PARTITION OF events FOR VALUES IN ('b');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE FUNCTION one_more() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.version := OLD.version + 1; RETURN NEW; END$$;
CREATE TRIGGER one_more BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION one_more();
CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO tallies VALUES (coalesce(NEW.id, OLD.id) / 1000 * 1000, 1)
        ON CONFLICT (id) DO UPDATE SET nodes = tallies.nodes + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    UPDATE nodes SET mark = mark || '!' WHERE id = NEW.id + 1 AND right(mark, 1) <> '!';
    RETURN NULL; END$$;
CREATE TRIGGER " tally" AFTER INSERT OR DELETE ON nodes FOR EACH ROW EXECUTE FUNCTION tally();
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO audit VALUES (NEW.id, NEW.mark); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON documents DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION late()"""
_SQLITE: Final = (
    "CREATE TRIGGER one_more AFTER UPDATE OF mark ON documents BEGIN "
    "UPDATE documents SET version = version + 1 WHERE id = NEW.id; END",
    "CREATE TRIGGER tally_i AFTER INSERT ON nodes BEGIN "
    "INSERT INTO tallies VALUES (NEW.id / 1000 * 1000, 1) ON CONFLICT (id) DO UPDATE SET nodes = nodes + 1; "
    "UPDATE nodes SET mark = mark || '!' WHERE id = NEW.id + 1 AND mark NOT LIKE '%!'; END",
    "CREATE TRIGGER tally_d AFTER DELETE ON nodes BEGIN "
    "UPDATE tallies SET nodes = nodes - 1 WHERE id = OLD.id / 1000 * 1000; END",
)
event.listen(Base.metadata, "after_create", DDL(_POSTGRESQL.replace("%", "%%")).execute_if(dialect="postgresql"))
for _each in _SQLITE:
    event.listen(Base.metadata, "after_create", DDL(_each.replace("%", "%%")).execute_if(dialect="sqlite"))

app = Application("hard", actions=["tests.core.history.hard.actions"], models=Base.metadata)
Rows = Counter[tuple[str, str]]


def copied(session: Session, owner: int) -> Rows:
    """All rows of an owner: the table, the row as text."""
    session.flush()
    connection = session.connection()
    found: Rows = Counter()
    for name in OWN:
        first = Base.metadata.tables[name].columns.keys()[0]
        sql = text(f"SELECT * FROM {name} WHERE {first} BETWEEN :low AND :low + 999")
        found.update((name, shown(row)) for row in connection.execute(sql, {"low": owner * 1000}))
    return found


def shown(row: Any) -> str:
    """A row as text, equal only where types are too."""
    return repr(exact(row))


def difference(after: Rows, before: Rows) -> list[list[Any]]:
    """Table, row, how often it came or went."""
    total = Counter(after)
    total.subtract(before)
    return sorted([table, row, times] for (table, row), times in total.items() if times)
