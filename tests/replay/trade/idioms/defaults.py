"""Rows inserted in all ways, and what the database makes of them, read back."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, bindparam, func, insert, literal, select, text
from sqlalchemy.exc import IntegrityError

from tests.replay.trade.idioms.kit import idiom
from tests.replay.trade.models import (
    Company,
    Job,
    Note,
    Party,
    Person,
    Reminder,
    Tag,
    random_text,
)

if TYPE_CHECKING:
    from tests.replay.trade.actions.act import Act


@idiom
def enlist(h: Act) -> Any:
    """Server and column defaults are there after the flush."""
    made = Person(name=h.args.word, born=1900 + h.args.n)
    h.session.add(made)
    h.session.flush()
    assert made.created_at is not None
    return [
        made.id,
        made.state.upper(),
        len(made.token),
        made.token,
        made.label,
        str(made.uid),
        made.nick,
        made.loud,
        made.seen_at is not None,
        made.updated_at,
    ]


@idiom
def found_company(h: Act) -> Any:
    """Joined inheritance, with a column default."""
    made = Company(name=f"{h.args.word} Ltd", capital=Decimal(h.args.amount) / 3)
    made.words.append(h.args.word + str(h.args.n))  # by the proxy
    with suppress(IntegrityError), h.session.begin_nested():
        h.session.add(made)
        h.session.flush()
        return {"id": made.id, "capital": str(made.capital), "label": made.label}
    return "taken"


@idiom
def enlist_returning(h: Act) -> Any:
    """Core, with RETURNING of what the database makes."""
    row = h.session.execute(
        insert(Party.__table__).values(kind="party", name=h.args.word).returning(Party.id, Party.label, Party.token)
    ).one()
    return [*row]


@idiom
def enlist_orm_returning(h: Act) -> Any:
    """ORM-enabled INSERT with RETURNING of entities."""
    made = h.session.scalars(
        insert(Note).returning(Note, sort_by_parameter_order=True),
        [{"kind": "note", "body": f"{h.args.word} {k}"} for k in range(h.args.n % 4 + 1)],
    ).all()
    return [[each.id, each.body, each.length] for each in made]


@idiom
def enlist_many(h: Act) -> Any:
    """Several at once: batched INSERTs."""
    made = [Note(body=f"{h.args.word} {k % 2}") for k in range(h.args.n % 5 + 2)]
    made.append(Reminder(body=h.args.word, after=timedelta(minutes=h.args.n)))
    h.session.add_all(made)
    h.session.flush()
    return [[each.id, each.body] for each in made]


@idiom
def enlist_values(h: Act) -> Any:
    """Core, many rows in one VALUES."""
    rows = [{"kind": "party", "name": f"{h.args.word}{k}"} for k in range(h.args.n % 3 + 1)]
    found = h.session.execute(insert(Party.__table__).values(rows).returning(Party.id, Party.token)).all()
    return sorted([*row] for row in found)


@idiom
def enlist_executemany(h: Act) -> Any:
    """Core, many parameter sets."""
    h.session.execute(
        insert(Tag.__table__).values(word=bindparam("word")),
        [{"word": f"{h.args.word} {h.ids.uuid()}"} for _ in range(h.args.n % 3 + 2)],
    )
    return h.session.scalar(select(func.count()).select_from(Tag).where(Tag.word.like(f"{h.args.word} %")))


@idiom
def equal_rows(h: Act) -> Any:
    """Rows that nothing but their keys tells apart."""
    made = [Job(what=what) for what in ("p", "q", "p", "p")]
    h.session.add_all(made)
    h.session.flush()
    return [[each.id, each.what] for each in made]


@idiom
def bulk_save(h: Act) -> Any:
    """The old bulk methods."""
    h.session.bulk_save_objects([Job(what=f"{h.args.word}{k}") for k in range(3)], return_defaults=h.args.n % 2 == 0)
    h.session.bulk_insert_mappings(Job, [{"what": "mapped"}, {"what": "mapped too"}])
    return h.session.scalar(select(func.max(Job.id)))


@idiom
def loose_order(h: Act) -> Any:
    """A set of objects is flushed in the order in which they were added, which is that of addresses."""
    made = {Job(what=f"{h.args.word} {k}") for k in range(6)}
    h.session.add_all(made)
    h.session.flush()
    return sorted(each.what for each in made)


@idiom
def raw_insert(h: Act) -> Any:
    """SQL by hand."""
    sql = text("INSERT INTO jobs (what) VALUES (:w) RETURNING id")
    return [h.session.execute(sql, {"w": f"raw {h.args.word} {k}"}).scalar_one() for k in range(2)]


@idiom
def mixed_insert(h: Act) -> Any:
    """SQL by hand beside the ORM's, into one table."""
    made = Job(what=f"orm {h.args.word}")
    h.session.add(made)
    h.session.flush()
    raw = h.session.execute(text("INSERT INTO jobs (what) VALUES ('raw') RETURNING id")).scalar_one()
    other = Job(what=f"orm again {h.args.word}")
    h.session.add(other)
    h.session.flush()
    return [made.id, raw, other.id]


@idiom
def insert_select(h: Act) -> Any:
    """Keys are made by the database for rows that it chooses itself."""
    chosen = select(literal("note"), Party.name + literal(f" {h.args.word}"), literal(datetime(2020, 1, 1)))
    chosen = chosen.where(Party.id > h.args.n).order_by(Party.id).limit(3)
    done = h.session.execute(insert(Note.__table__).from_select(["kind", "body", "at"], chosen))
    return done.rowcount


@idiom
def insert_expressions(h: Act) -> Any:
    """Values that the database computes."""
    made = Note(body=func.upper(h.args.word), at=datetime(2020, 1, 1))
    h.session.add(made)
    h.session.flush()
    count = select(func.count() + 1).select_from(Tag).scalar_subquery().cast(String)
    values = {"kind": "note", "body": count + literal(" tags"), "at": datetime(2020, 1, 2)}
    row = h.session.execute(insert(Note.__table__).values(values).returning(Note.id)).one()
    return [made.id, made.body, row.id]


@idiom
def default_in_values(h: Act) -> Any:
    """A database's function given as value."""
    row = h.session.execute(
        insert(Party.__table__)
        .values(kind="party", name=h.args.word, token=random_text(), created_at=func.now())
        .returning(Party.id, Party.token)
    ).one()
    return [row.id, len(row.token)]
