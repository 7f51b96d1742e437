"""Its tables: inheritance of all kinds, a tree, defaults of all kinds, triggers, constraints checked late, no keys."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    DDL,
    JSON,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    Sequence,
    String,
    Table,
    UniqueConstraint,
    event,
    func,
    text,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship
from sqlalchemy.sql.functions import FunctionElement


class random_text(FunctionElement[str]):  # noqa: N801
    """Something else each time, made by the database."""

    type = String()
    inherit_cache = True


@compiles(random_text)
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "(lower(hex(randomblob(8))))"


@compiles(random_text, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return "md5(random()::text || clock_timestamp()::text)"


class Base(DeclarativeBase):
    """Its metadata."""


class Stamped:
    """A mixin, as most applications have one."""

    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), onupdate=func.now())


class State(enum.Enum):
    """Of an order."""

    NEW = "new"
    PAID = "paid"
    SENT = "sent"


party_tags = Table(
    "party_tags",
    Base.metadata,
    Column("party_id", ForeignKey("parties.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
)


class Tag(Base):
    """A word."""

    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(unique=True)

    def __init__(self, word: str) -> None:
        self.word = word


class Party(Stamped, Base):
    """Whom one trades with: a person or a company, each in a table more."""

    __tablename__ = "parties"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    token: Mapped[str] = mapped_column(server_default=random_text())
    state: Mapped[str] = mapped_column(server_default="new")
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    uid: Mapped[UUID] = mapped_column(default=uuid4)
    nick: Mapped[str | None] = mapped_column(default=func.lower("ANON"))
    label: Mapped[str] = mapped_column(Computed("name || '!'"))
    tags: Mapped[list[Tag]] = relationship(secondary=party_tags)
    words: AssociationProxy[list[str]] = association_proxy("tags", "word")
    orders: Mapped[list[Order]] = relationship(back_populates="party", cascade="all, delete-orphan")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}

    @hybrid_property
    def loud(self) -> str:
        """Its name."""
        return self.name.upper()

    @loud.inplace.expression
    @classmethod
    def _loud(cls) -> Any:
        return func.upper(cls.name)


class Person(Party):
    """One of flesh and blood."""

    __tablename__ = "persons"
    id: Mapped[int] = mapped_column(ForeignKey("parties.id", ondelete="CASCADE"), primary_key=True)
    born: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "person"}


class Company(Party):
    """One on paper."""

    __tablename__ = "companies"
    id: Mapped[int] = mapped_column(ForeignKey("parties.id", ondelete="CASCADE"), primary_key=True)
    capital: Mapped[Decimal] = mapped_column(Numeric(12, 2), default=Decimal("25000"))
    __mapper_args__ = {"polymorphic_identity": "company"}


class Order(Stamped, Base):
    """What somebody wants."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None] = mapped_column(Integer, Sequence("order_numbers", start=100))
    party_id: Mapped[int] = mapped_column(ForeignKey("parties.id", ondelete="CASCADE"))
    status: Mapped[State] = mapped_column(default=State.NEW)
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal(0))
    party: Mapped[Party] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan", order_by="Line.place")


class Line(Base):
    """A part of an order; no two at one place, in the end."""

    __tablename__ = "order_lines"
    __table_args__ = (
        UniqueConstraint("order_id", "place", deferrable=True, initially="DEFERRED").ddl_if(dialect="postgresql"),
        CheckConstraint("quantity > 0", name="some"),
    )
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    ware: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int]
    quantity: Mapped[int] = mapped_column(default=1)


class Stock(Base):
    """How much there is of a ware; counted up whenever it is written."""

    __tablename__ = "stock"
    ware: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int] = mapped_column(CheckConstraint("quantity >= 0", name="not_below_nothing"))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default=text("1.50"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Node(Base):
    """Of a tree."""

    __tablename__ = "nodes"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"))
    name: Mapped[str]
    children: Mapped[list[Node]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Note(Base):
    """Two kinds in one table."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    body: Mapped[str] = mapped_column()
    at: Mapped[datetime] = mapped_column(default=datetime.now)
    length: Mapped[int] = column_property(func.length(body))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "note"}


class Reminder(Note):
    """With a time."""

    after: Mapped[timedelta | None] = mapped_column(Interval)
    __mapper_args__ = {"polymorphic_identity": "reminder"}


class Setting(Base):
    """Of all types."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)
    items: Mapped[list[Any]] = mapped_column(MutableList.as_mutable(JSON), default=list)
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    rate: Mapped[float | None]


class Job(Stamped, Base):
    """Something to be done by whoever comes first."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str]
    done_by: Mapped[str | None]


counters = Table(
    "counters",
    Base.metadata,
    Column("name", String, primary_key=True),
    Column("n", Integer, nullable=False, default=0),
    Column("changed_at", DateTime(timezone=True), server_default=func.now(), onupdate=lambda: datetime.now(UTC)),
)
readings = Table(
    "readings",
    Base.metadata,
    Column("place", String),
    Column("value", Integer),
    Column("at", DateTime(timezone=True), server_default=func.now()),
)
stock_log = Table(
    "stock_log",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("ware", String),
    Column("quantity", Integer),
)

_FUNCTION = """CREATE FUNCTION log_stock() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    INSERT INTO stock_log (ware, quantity) VALUES (NEW.ware, NEW.quantity); RETURN NEW; END$$"""
_TRIGGER = "CREATE TRIGGER log_stock AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION log_stock()"
_SQLITE = """CREATE TRIGGER log_stock AFTER UPDATE ON stock BEGIN
    INSERT INTO stock_log (ware, quantity) VALUES (NEW.ware, NEW.quantity); END"""
event.listen(Base.metadata, "after_create", DDL(_FUNCTION).execute_if(dialect="postgresql"))
event.listen(Base.metadata, "after_create", DDL(_TRIGGER).execute_if(dialect="postgresql"))
event.listen(Base.metadata, "after_create", DDL(_SQLITE).execute_if(dialect="sqlite"))
