"""Rows changed, the database's clock among others; upserts; savepoints, errors and constraints checked late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import selectinload

from tests.replay.trade.idioms.kit import idiom, party, upsert
from tests.replay.trade.models import (
    Job,
    Line,
    Order,
    Party,
    Setting,
    Tag,
    counters,
)

if TYPE_CHECKING:
    from tests.replay.trade.actions.act import Act


@idiom
def touch(h: Act) -> Any:
    """`onupdate` of the database's clock, by the ORM."""
    found = party(h)
    found.name = f"{h.args.word} {h.args.n}"
    h.session.flush()
    assert found.updated_at is not None
    return [found.id, found.label]


@idiom
def touch_core(h: Act) -> Any:
    """The same by Core, many rows at once."""
    done = h.session.execute(
        update(Order).where(Order.id % 7 == h.args.n % 7).values(total=Order.total + h.args.amount)
    )
    return done.rowcount


@idiom
def touch_values(h: Act) -> Any:
    """The clock in an UPDATE's own values."""
    found = party(h)
    h.session.execute(update(Party).where(Party.id == found.id).values(created_at=func.now(), seen_at=func.now()))
    return found.id


@idiom
def touch_returning(h: Act) -> Any:
    """What an UPDATE made, returned."""
    found = party(h)
    stated = update(Party).where(Party.id == found.id).values(state=h.args.word).returning(Party.id, Party.state)
    return [*h.session.execute(stated).one()]


@idiom
def touch_many(h: Act) -> Any:
    """UPDATE by key, many parameter sets."""
    ids = h.session.scalars(select(Job.id).order_by(Job.id.desc()).limit(3)).all()
    if ids:
        h.session.execute(update(Job), [{"id": each, "what": f"{h.args.word} {each}"} for each in ids])
    return list(ids)


@idiom
def say_time(h: Act) -> Any:
    """The database's clock, asked and told."""
    return {"now": h.session.scalar(select(func.now())), "day": h.session.scalar(select(func.current_date()))}


@idiom
def keep_time(h: Act) -> Any:
    """The dependency's clock, as the docs want it."""
    h.session.merge(Setting(name=f"time {h.args.n % 5}", data={"at": h.clock.now().isoformat()}, items=[1, 1.0, None]))
    h.session.flush()
    return h.clock.now()


@idiom
def onupdate_python(h: Act) -> Any:
    """`onupdate` of Python's clock."""
    name = f"c{h.args.n % 9}"
    done = h.session.execute(update(counters).where(counters.c.name == name).values(n=counters.c.n + 1))
    if not done.rowcount:
        h.session.execute(insert(counters).values(name=name, n=1))
    return h.session.scalar(select(counters.c.n).where(counters.c.name == name))


@idiom
def count(h: Act) -> Any:
    """ON CONFLICT DO UPDATE with RETURNING."""
    given = upsert(h, counters).values(name=f"c{h.args.n % 9}", n=h.args.amount)
    given = given.on_conflict_do_update(index_elements=["name"], set_={"n": counters.c.n + given.excluded.n})
    return h.session.scalar(given.returning(counters.c.n))


@idiom
def tag_some(h: Act) -> Any:
    """ON CONFLICT DO NOTHING uses up keys of a sequence."""
    words = [f"w{(h.args.n + k) % 30}" for k in range(3)]
    h.session.execute(upsert(h, Tag.__table__).on_conflict_do_nothing(), [{"word": each} for each in words])
    made = Tag(f"{h.args.word} {h.ids.uuid()}")
    h.session.add(made)
    h.session.flush()
    return made.id


@idiom
def upsert_values(h: Act) -> Any:
    """Many rows in one upsert, some of which are there."""
    rows = [{"word": f"w{(h.args.n * 3 + k) % 40}"} for k in range(4)]
    given = upsert(h, Tag.__table__).values(rows)
    given = given.on_conflict_do_update(index_elements=["word"], set_={"word": given.excluded.word})
    return sorted(h.session.scalars(given.returning(Tag.word)).all())


@idiom
def try_first(h: Act) -> Any:
    """A savepoint is rolled back before the real thing is written."""
    try:
        with h.session.begin_nested():
            h.session.add(Job(what="lost"))
            h.session.flush()
            raise LookupError
    except LookupError:
        made = Job(what=f"real {h.args.word}")
        h.session.add(made)
        h.session.flush()
    return made.id


@idiom
def get_or_create(h: Act) -> Any:
    """Insert; if it is there, take that."""
    word = f"w{h.args.n % 30}"
    try:
        with h.session.begin_nested():
            made = Tag(word)
            h.session.add(made)
            h.session.flush()
    except IntegrityError:
        made = h.session.scalars(select(Tag).where(Tag.word == word)).one()
    return [made.id, made.word]


@idiom
def break_rule(h: Act) -> Any:
    """Ends by a database's error, which holds statement and values."""
    made = Order(party=party(h), lines=[Line(ware="w", place=1, quantity=-h.args.n)])
    h.session.add(made)
    h.session.flush()
    return made.id


@idiom
def take_word(h: Act) -> Any:
    """Ends by a unique constraint more often than not."""
    h.session.add(Tag(f"w{h.args.n % 6}"))
    h.session.flush()
    return "taken"


@idiom
def raw_error(h: Act) -> Any:
    """Ends by an error of the syntax."""
    h.session.execute(text("SELECT nothing FROM nowhere"))


@idiom
def missing(h: Act) -> Any:
    """Ends by SQLAlchemy's own error."""
    return h.session.scalars(select(Tag).where(Tag.word == f"never {h.args.word}")).one().id


@idiom
def odd_error(h: Act) -> Any:
    """The message tells an address in memory."""
    raise ValueError(f"{h.session} and {memoryview(b'x')}: {h.args.n}")


@idiom
def swap_places(h: Act) -> Any:
    """A constraint that is checked late lets two change places."""
    order = h.session.scalars(
        select(Order).options(selectinload(Order.lines)).order_by(Order.id.desc()).limit(1)
    ).first()
    if order is None or len(order.lines) < 2:
        return None
    first, second = order.lines[0], order.lines[1]
    first.place, second.place = second.place, first.place
    h.session.flush()
    return [first.ware, second.ware]


@idiom
def clash_late(h: Act) -> Any:
    """A constraint that is checked late fails in the end."""
    made = Order(party=party(h), lines=[Line(ware="a", place=1), Line(ware="b", place=2 - h.args.n % 2)])
    h.session.add(made)
    h.session.flush()
    return made.id
