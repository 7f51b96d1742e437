"""What only the order decides in which rows lie is told as that; other values of rows never are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.engine import URL

from actionbus.replay import Step
from tests.conftest import query
from tests.replay.conftest import open_bus
from tests.replay.trade import make_application
from tests.replay.trade.idioms import IDIOMS
from tests.replay.trade.models import Setting, Tag, readings
from tests.replay.trade.verifying import told, verified

Way = Callable[[Any, Any], Any]
"""What a handler does with the rows of a query, which says an order or does not."""
AS_THEY_LIE = select(readings.c.place)
AS_THEY_LAY = AS_THEY_LIE.order_by(readings.c.place.desc())
"""As if they had lain so in history: that they did was recorded nowhere."""


def fill(h: Any) -> None:
    h.session.execute(insert(readings), [{"place": word, "value": 1} for word in ("c", "a", "e", "d", "b")])


def joined(h: Any, places: Any) -> Any:
    """An aggregate of texts."""
    rows = places.subquery()
    is_postgresql = h.session.get_bind().dialect.name == "postgresql"
    join = func.string_agg(rows.c.place, literal(",")) if is_postgresql else func.group_concat(rows.c.place)
    return h.session.scalar(select(join))


def listed(h: Any, places: Any) -> Any:
    return list(h.session.scalars(places))


def told_outside(h: Any, places: Any) -> Any:
    return [h.post.send(place, text="hello") for place in h.session.scalars(places)]


def take_two(h: Any, places: Any, value: int = 9) -> Any:
    """LIMIT, and a change of what it gave."""
    found = list(h.session.scalars(places.limit(2)))
    h.session.execute(update(readings).where(readings.c.place.in_(found)).values(value=value))


def last_stays(h: Any, places: Any) -> None:
    for place in h.session.scalars(places):
        h.session.merge(Setting(name="last", data={"place": place}))
        h.session.flush()


def steps_of(url: URL, sandbox: URL, monkeypatch: pytest.MonkeyPatch, then: Way, now: Way, query: Any) -> list[Step]:
    """The verdicts upon `now`, where history did `then` on rows in an order that it happened to find."""
    monkeypatch.setitem(IDIOMS, "fill", fill)
    monkeypatch.setitem(IDIOMS, "way", lambda h: then(h, AS_THEY_LAY))
    with open_bus(make_application(), url) as bus:
        bus.execute("act", {"idiom": "fill"})
        bus.execute("act", {"idiom": "way"})
        monkeypatch.setitem(IDIOMS, "way", lambda h: now(h, query))
        return verified(bus, sandbox)


@pytest.mark.parametrize("way", [joined, listed, told_outside, take_two, last_stays])
def test_an_order_that_nobody_asked_for(
    postgres_url: URL, server: Any, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = server.database()
    steps = steps_of(postgres_url, sandbox, monkeypatch, way, way, AS_THEY_LIE)
    server.drop(sandbox)
    assert [step.verdict for step in steps] == ["same", "order"], told(steps, "divergent")


@pytest.mark.parametrize("way", [joined, listed, told_outside])
def test_sqlite_tells_it_where_the_same_things_are_told(
    sqlite_url: URL, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(sqlite_url, "sqlite://", monkeypatch, way, way, AS_THEY_LIE)  # type: ignore[arg-type]
    assert [step.verdict for step in steps] == ["same", "order"], told(steps, "divergent")


BUGS: dict[str, tuple[Way, Way, Any]] = {
    "another value beside another order": (take_two, lambda h, places: take_two(h, places, 8), AS_THEY_LIE),
    "one less": (listed, lambda h, places: listed(h, places)[1:], AS_THEY_LIE),
    "other texts": (joined, lambda h, places: joined(h, places).upper(), AS_THEY_LIE),
    "others are changed": (
        take_two,
        lambda h, places: (
            take_two(h, places.offset(1)) or (h.session.execute(insert(readings).values(place="f")) and None)
        ),
        AS_THEY_LIE,
    ),
    "an order that was asked for": (listed, listed, AS_THEY_LIE.order_by(readings.c.place)),
    "the other end": (take_two, take_two, AS_THEY_LIE.order_by(readings.c.place)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_an_order_hides_nothing(url: URL, sandbox_url: URL, bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(url, sandbox_url, monkeypatch, *BUGS[bug])
    assert [step.verdict for step in steps] == ["same", "divergent"]


def test_an_order_in_which_an_index_gave_rows(postgres_url: URL, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a planner prefers is nobody's choice either: in history it read the table, in the sandbox an index."""
    words = insert(Tag.__table__)
    monkeypatch.setitem(
        IDIOMS, "fill", lambda h: h.session.execute(words, [{"word": each} for each in "caedb"]) and None
    )
    monkeypatch.setitem(IDIOMS, "way", lambda h: h.session.scalar(select(func.string_agg(Tag.word, literal(",")))))
    sandbox = server.database()
    for way in ("seqscan", "bitmapscan"):
        query(sandbox, f"ALTER DATABASE {sandbox.database} SET enable_{way} = off")
    with open_bus(make_application(), postgres_url) as bus:
        bus.execute("act", {"idiom": "fill"})
        assert bus.execute("act", {"idiom": "way"}).result == "c,a,e,d,b"
        steps = verified(bus, sandbox)
    server.drop(sandbox)
    assert [(step.verdict, [each.now for each in step.differences]) for step in steps] == [
        ("same", []),
        ("order", ["a,b,c,d,e"]),
    ]
