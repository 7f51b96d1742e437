"""Relationships, types, versions; tables without a key; chance, secrets, the heap; nested actions and the outside."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, exists, func, insert, literal, or_, select, text, update
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.orm import aliased, joinedload, selectinload

from tests.replay.trade.idioms.kit import idiom, party, tag
from tests.replay.trade.models import (
    Job,
    Line,
    Node,
    Note,
    Order,
    Party,
    Reminder,
    Setting,
    State,
    Stock,
    Tag,
    counters,
    party_tags,
    random_text,
    readings,
    stock_log,
)

if TYPE_CHECKING:
    from tests.replay.trade.actions.act import Act


@idiom
def order(h: Act) -> Any:
    """A parent with children, a sequence beside the key."""
    made = Order(party=party(h), total=Decimal(h.args.amount) / 7)
    for place in range(h.args.n % 4 + 1):
        made.lines.append(Line(ware=f"ware {place}", place=place, quantity=place + 1))
    h.session.add(made)
    h.session.flush()
    return {
        "id": made.id,
        "number": made.number,
        "status": made.status.value,
        "total": made.total,
        "first": made.lines[0].quantity,
    }


@idiom
def pay(h: Act) -> Any:
    """An Enum; a lock."""
    found = h.session.scalars(
        select(Order).where(Order.status == State.NEW).order_by(Order.id).limit(1).with_for_update()
    ).first()
    if found is None:
        return None
    found.status = State.PAID
    return [found.id, found.party.name]


@idiom
def cancel(h: Act) -> Any:
    """The ORM's cascade."""
    found = h.session.scalars(select(Order).order_by(Order.id).limit(1)).first()
    if found is not None:
        h.session.delete(found)
    return None if found is None else found.id


@idiom
def leave(h: Act) -> Any:
    """The database's cascade, over tables that know nothing of each other."""
    found = party(h)
    done = h.session.execute(delete(Party).where(Party.id == found.id).execution_options(synchronize_session=False))
    return [found.name, done.rowcount]


@idiom
def change_lines(h: Act) -> Any:
    """Orphans go."""
    found = h.session.scalars(select(Order).order_by(Order.id.desc()).limit(1)).first()
    if found is None:
        return None
    found.lines[:] = [Line(ware=f"new {h.args.word}", place=9, quantity=2), *found.lines[:1]]
    h.session.flush()
    return [line.ware for line in found.lines]


@idiom
def label(h: Act) -> Any:
    """Many-to-many, by an association proxy."""
    found = party(h)
    for word in {f"w{h.args.n % 30}", f"w{(h.args.n + 7) % 30}", f"w{(h.args.n + 11) % 30}"}:
        made = tag(h, word)
        if made not in found.tags:
            found.tags.append(made)
    h.session.flush()
    return sorted(found.words)


@idiom
def unlabel(h: Act) -> Any:
    """All of them at once."""
    found = party(h)
    gone = len(found.tags)
    found.tags.clear()
    return gone


@idiom
def grow(h: Act) -> Any:
    """A tree whose keys are always the database's."""
    count = h.session.scalar(select(func.count()).select_from(Node)) or 0
    above = h.session.scalars(select(Node).order_by(Node.id).offset(h.args.n % (count + 1)).limit(1)).first()
    made = Node(name=h.args.word, children=[Node(name="left"), Node(name="right", children=[Node(name="leaf")])])
    if above is not None:
        above.children.append(made)
    h.session.add(made)
    h.session.flush()
    return [made.id, [child.id for child in made.children]]


@idiom
def fell(h: Act) -> Any:
    """A tree goes with its root; a recursive query counts it."""
    root = h.session.scalar(select(func.min(Node.id)).where(Node.id % 5 == h.args.n % 5))
    if root is None:
        return 0
    below = select(Node.id).where(Node.id == root).cte("below", recursive=True)
    below = below.union_all(select(Node.id).join(below, Node.parent_id == below.c.id))
    counted = h.session.scalar(select(func.count()).select_from(below))
    h.session.delete(h.session.get_one(Node, root))
    return counted


@idiom
def read_all(h: Act) -> Any:
    """Polymorphic loading, eager and lazy, of aliases."""
    other = aliased(Order)
    rows = (
        h.session.scalars(
            select(Party)
            .options(joinedload(Party.tags), selectinload(Party.orders).selectinload(Order.lines))
            .where(or_(Party.loud == h.args.word.upper(), exists().where(other.party_id == Party.id)))
            .order_by(Party.id)
            .limit(5)
        )
        .unique()
        .all()
    )
    return [[type(each).__name__, each.id, len(each.orders), sorted(each.words)] for each in rows]


@idiom
def restock(h: Act) -> Any:
    """A version column; a trigger writes a log with keys of its own."""
    ware = f"ware {h.args.n % 6}"
    found = h.session.get(Stock, ware, with_for_update=True)
    if found is None:
        made = Stock(ware=ware, quantity=h.args.amount)
        h.session.add(made)
        h.session.flush()
        return [made.version, str(made.price)]
    found.quantity += h.args.amount
    h.session.flush()
    found.quantity += 1
    h.session.flush()
    return [found.version, h.session.scalar(select(func.max(stock_log.c.id)).where(stock_log.c.ware == ware))]


@idiom
def sell(h: Act) -> Any:
    """No lock: the version tells, and a check."""
    found = h.session.get(Stock, f"ware {h.args.n % 6}")
    if found is None:
        raise NoResultFound(f"no ware {h.args.n % 6}")
    found.quantity -= h.args.amount * 2
    h.session.flush()
    return found.quantity


@idiom
def price(h: Act) -> Any:
    """Arithmetic of the database; CASE."""
    done = h.session.execute(
        update(Stock).values(
            price=case((Stock.quantity > 10, Stock.price * Decimal("1.1")), else_=Stock.price + Decimal("0.05")),
            version=Stock.version + 1,
        )
    )
    return done.rowcount


@idiom
def configure(h: Act) -> Any:
    """JSON changed in place."""
    name = f"set {h.args.n % 5}"
    found = h.session.get(Setting, name) or Setting(name=name, data={}, items=[], raw=b"\x00\xff", rate=0.1)
    found.data[h.args.word] = [h.args.amount, None, 1.0, {"deep": "é"}]
    found.items.append(h.args.n)
    h.session.add(found)
    h.session.flush()
    return [found.data, len(found.items)]


@idiom
def remind(h: Act) -> Any:
    """An interval; a name of the single table."""
    made = Reminder(body=h.args.word, after=timedelta(hours=h.args.n, microseconds=5), at=datetime(2020, 1, 1))
    h.session.add(made)
    h.session.flush()
    h.session.expire(made)
    return [made.id, made.kind, made.after.total_seconds() if made.after else None, made.length]


@idiom
def measure(h: Act) -> Any:
    """Rows of a table without a key, some of them alike."""
    h.session.execute(insert(readings), [{"place": h.args.word, "value": k % 2} for k in range(3)])
    return h.session.scalar(select(func.count()).select_from(readings).where(readings.c.place == h.args.word))


@idiom
def forget(h: Act) -> Any:
    """Some of these go, or change."""
    h.session.execute(update(readings).where(readings.c.value == 1, readings.c.place == h.args.word).values(value=2))
    return h.session.execute(delete(readings).where(readings.c.value == 0, readings.c.place == h.args.word)).rowcount


@idiom
def by_hand(h: Act) -> Any:
    """A common table expression that writes, or a subquery."""
    h.session.execute(text("UPDATE jobs SET done_by = :w WHERE id = (SELECT max(id) FROM jobs)"), {"w": h.args.word})
    return h.session.execute(text("SELECT count(*) FROM jobs WHERE done_by = :w"), {"w": h.args.word}).scalar_one()


@idiom
def claim(h: Act) -> Any:
    """Whoever comes first."""
    found = h.session.scalars(
        select(Job).where(Job.done_by.is_(None)).order_by(Job.id).limit(1).with_for_update(skip_locked=True)
    ).first()
    if found is None:
        return None
    found.done_by = h.args.word
    return found.id


@idiom
def gamble(h: Act) -> Any:
    """Chance and ids are the dependencies'."""
    h.session.execute(insert(readings).values(place=str(h.ids.uuid()), value=h.random.randrange(10**6)))
    return h.random.random()


@idiom
def keep_secret(h: Act) -> Any:
    """What nobody may read."""
    h.session.merge(Setting(name=f"secret {h.args.n % 3}", data={"token": h.secrets.token_hex(8)}))
    h.session.flush()
    return "kept"


@idiom
def database_chance(h: Act) -> Any:
    """The database's chance, written and told."""
    made = Note(body=random_text(), at=datetime(2020, 1, 1))
    h.session.add(made)
    h.session.flush()
    return made.id


@idiom
def any_one(h: Act) -> Any:
    """LIMIT without ORDER BY."""
    found = h.session.scalars(select(Job.id).where(Job.done_by.is_(None)).limit(2)).all()
    return list(found)


@idiom
def any_order(h: Act) -> Any:
    """An aggregate without an order."""
    joined = (
        func.string_agg(Tag.word, literal(","))
        if h.session.get_bind().dialect.name == "postgresql"
        else func.group_concat(Tag.word)
    )
    return h.session.scalar(select(joined))


@idiom
def write_letter(h: Act) -> Any:
    """An outside call whose answer is kept."""
    receipt = h.post.send("nobody" if h.args.n % 5 == 0 else h.args.word, text=f"number {h.args.n}")
    h.session.add(Note(body=receipt, at=datetime(2020, 1, 1)))
    return receipt


@idiom
def nest(h: Act) -> Any:
    """Nested actions, one of which fails; at times so does the outer one."""
    made = [
        h.runner.execute("act", {"idiom": each, "n": h.args.n, "word": h.args.word}).result
        for each in ("order", "write_letter" if h.args.n % 5 else "count", "mixed_insert")
    ]
    with suppress(IntegrityError):
        h.runner.execute("act", {"idiom": "break_rule", "n": h.args.n})
    if h.args.n % 4 == 3:
        raise RuntimeError("the outer one fails")
    return made


@idiom
def set_of_actions(h: Act) -> Any:
    """Rows written in the order of a set of texts."""
    for word in {f"{h.args.word}{k}" for k in range(5)}:
        h.session.execute(insert(readings).values(place=word, value=h.args.n))
        h.session.add(Job(what=word))
    return datetime.now(UTC) > h.clock.now() - timedelta(days=99999)


@idiom
def transfer(h: Act) -> Any:
    """Two rows locked, in order."""
    names = sorted({f"c{h.args.n % 9}", f"c{h.args.amount % 9}"})
    rows = h.session.execute(
        select(counters).where(counters.c.name.in_(names)).order_by(counters.c.name).with_for_update()
    ).all()
    if len(rows) < 2:
        return None
    h.session.execute(update(counters).where(counters.c.name == names[0]).values(n=rows[0].n - 1))
    h.session.execute(update(counters).where(counters.c.name == names[1]).values(n=rows[1].n + 1))
    return [rows[0].n, rows[1].n]


@idiom
def untag_raw(h: Act) -> Any:
    """Core on the table between two others."""
    return h.session.execute(delete(party_tags).where(party_tags.c.tag_id % 5 == h.args.n % 5)).rowcount
