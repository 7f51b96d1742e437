"""An UPDATE or a cascade goes through rows as they lie: where triggers number what they write, that is an order too.

A replay that begins in between puts rows there one after the other, and a server that vacuums has later ones in the place
of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import DDL, create_engine, delete, event, insert, select, update
from sqlalchemy.engine import URL

from actionbus.replay import Replayer
from tests.replay.conftest import open_bus
from tests.replay.trade import make_application
from tests.replay.trade.idioms import IDIOMS
from tests.replay.trade.models import Base, Order, Party, Stock, stock_log
from tests.replay.trade.verifying import told, verified

Way = Callable[[Any], Any]
LOGS_ORDERS = (
    """CREATE FUNCTION log_order() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO stock_log (ware, quantity) VALUES ('gone', OLD.id); RETURN OLD; END$$""",
    "CREATE TRIGGER log_order AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION log_order()",
)


@pytest.fixture
def logs_orders() -> Iterator[None]:
    """A trigger logs orders that are deleted, in history as in the sandbox."""
    made = [DDL(each).execute_if(dialect="postgresql") for each in LOGS_ORDERS]
    for each in made:
        event.listen(Base.metadata, "after_create", each)
    yield
    for each in made:
        event.remove(Base.metadata, "after_create", each)


def test_an_update_of_rows_that_a_vacuum_let_lie_elsewhere(postgres_url: URL, empty_postgres_url: URL) -> None:
    with open_bus(make_application(), postgres_url) as bus:
        for n in range(3):
            bus.execute("act", {"idiom": "restock", "n": n, "amount": 9})
        bus.execute("act", {"idiom": "restock", "n": 0, "amount": 9})
        engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM stock")
        engine.dispose()
        bus.execute("act", {"idiom": "sell", "n": 1, "amount": 1})
        bus.execute("act", {"idiom": "price"})
        steps = verified(bus, empty_postgres_url)
    assert [step.verdict for step in steps] == ["same"] * 5 + ["order"], told(steps, "divergent")
    assert {str(each).partition("[")[0] for each in steps[-1].differences} == {"stock_log"}


def test_an_update_of_rows_that_a_replay_begins_with(postgres_url: URL, empty_postgres_url: URL) -> None:
    with open_bus(make_application(), postgres_url) as bus:
        for n in (0, 1, 2, 1):
            bus.execute("act", {"idiom": "restock", "n": n, "amount": 9})
        begin = bus.journal.last()
        bus.execute("act", {"idiom": "price"})
        with Replayer(bus.journal, make_application(), empty_postgres_url) as replayer:
            steps = list(replayer.verify(begin))
    assert [(step.verdict, step.overlapped) for step in steps] == [("order", ())], told(steps, "divergent")


def raise_each(h: Any, value: int = 2) -> None:
    """As if they had lain so in history."""
    for ware in ("c", "a", "b"):
        h.session.execute(update(Stock).where(Stock.ware == ware).values(quantity=value))


def raise_all(h: Any, value: int = 2) -> None:
    h.session.execute(update(Stock).values(quantity=value))


def raise_all_and_log(h: Any) -> None:
    raise_all(h)
    h.session.execute(insert(stock_log).values(ware="d"))


def raise_some(h: Any) -> None:
    h.session.execute(update(Stock).where(Stock.ware > "a").values(quantity=2))


def leave_one_by_one(h: Any) -> None:
    """Last come, first gone."""
    for number in h.session.scalars(select(Order.id).order_by(Order.id.desc())).all():
        h.session.execute(delete(Order).where(Order.id == number))
    h.session.execute(delete(Party))


def leave(h: Any) -> None:
    """The orders go with their party, and no statement names them."""
    h.session.execute(delete(Party))


def fill(h: Any) -> None:
    h.session.add_all([Stock(ware=each, quantity=1) for each in "abc"])
    party = Party(kind="party", name="ann")
    party.orders = [Order(), Order(), Order()]
    h.session.add(party)


WAYS: dict[str, tuple[Way, Way, str]] = {
    "an update": (raise_each, raise_all, "order"),
    "a cascade": (leave_one_by_one, leave, "order"),
    "another value": (raise_each, lambda h: raise_all(h, 3), "divergent"),
    "one more": (raise_each, raise_all_and_log, "divergent"),
    "one less": (raise_each, raise_some, "divergent"),
}


@pytest.mark.usefixtures("logs_orders")
@pytest.mark.parametrize("way", WAYS)
def test_what_triggers_number_as_it_is_gone_through(
    postgres_url: URL, empty_postgres_url: URL, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, now, verdict = WAYS[way]
    monkeypatch.setitem(IDIOMS, "fill", fill)
    monkeypatch.setitem(IDIOMS, "way", then)
    with open_bus(make_application(), postgres_url) as bus:
        bus.execute("act", {"idiom": "fill"})
        bus.execute("act", {"idiom": "way"})
        monkeypatch.setitem(IDIOMS, "way", now)
        steps = verified(bus, empty_postgres_url)
    assert [step.verdict for step in steps] == ["same", verdict], told(steps, "divergent", "order")
