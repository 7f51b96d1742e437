"""What is withheld stays so: through a renewal, a baseline, and under another name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus, ConfigurationError
from actionbus.core.history.install import install, status
from actionbus.core.history.shapes import TableStatus, TableWanted
from tests.shop.app import make_application


class Cards:
    """A table with a secret column, in a database with a journal."""

    def __init__(self, url: URL) -> None:
        self.bus = Bus(make_application(models=None), url)
        self.bus.journal.create()
        self.run("CREATE TABLE cards (id INTEGER PRIMARY KEY, secret TEXT, name TEXT)")
        self.install(withheld=("secret",))
        self.run("INSERT INTO cards VALUES (1, 'hush', 'a')")

    def run(self, *statements: str) -> None:
        with self.bus.engine.begin() as connection:
            for each in statements:
                connection.execute(text(each))

    def install(self, *, baseline: bool = False, **wanted: Any) -> list[str]:
        with self.bus.engine.begin() as connection:
            return install(self.bus.backend, connection, [TableWanted("cards", **wanted)], baseline=baseline)

    def status(self) -> TableStatus:
        with self.bus.engine.begin() as connection:
            return status(self.bus.backend, connection)[0]

    def images(self) -> str:
        """All that was ever recorded."""
        with self.bus.engine.connect() as connection:
            return str(connection.execute(text("SELECT * FROM actionbus_images")).all())


@pytest.fixture
def cards(url: URL) -> Iterator[Cards]:
    made = Cards(url)
    yield made
    assert "hush" not in made.images(), "whatever a test did"
    made.bus.close()


def test_a_renewal_and_a_baseline_that_say_nothing_of_it_keep_a_column_withheld(cards: Cards) -> None:
    cards.run("ALTER TABLE cards ADD size INTEGER")
    assert cards.install()
    cards.run("UPDATE cards SET size = 7")
    assert cards.install(baseline=True)
    assert cards.status().withheld == ("secret",)
    assert cards.status().columns == ("id", "name", "size")
    assert cards.status().is_whole


def test_a_renamed_column_is_withheld_under_its_new_name(cards: Cards) -> None:
    cards.run("ALTER TABLE cards RENAME COLUMN secret TO token", "UPDATE cards SET name = 'b'")
    assert not cards.status().is_whole
    cards.run("INSERT INTO cards VALUES (2, 'hush', 'c')")
    for wanted in ({}, {"withheld": ("secret",)}):  # the models do not know of it yet
        cards.install(baseline=True, **wanted)
    assert cards.status().withheld == ("token",)
    cards.run("ALTER TABLE cards RENAME COLUMN token TO word")
    cards.install()
    cards.run("UPDATE cards SET name = 'd'", "DELETE FROM cards")
    assert cards.status().withheld == ("word",)
    assert cards.status().is_whole


def test_what_is_new_beside_a_renamed_one_is_told_from_it_where_columns_have_numbers(cards: Cards) -> None:
    cards.run("ALTER TABLE cards RENAME COLUMN secret TO token", "ALTER TABLE cards ADD size INTEGER")
    cards.install()
    is_sqlite = cards.bus.engine.dialect.name == "sqlite"
    assert cards.status().withheld == (("token", "size") if is_sqlite else ("token",))
    cards.install(recorded=("id", "name", "size"))  # as the models say
    assert cards.status().withheld == ("token",)
    assert cards.status().columns == ("id", "name", "size")


def test_a_column_is_recorded_again_once_somebody_says_so(cards: Cards) -> None:
    cards.run("UPDATE cards SET secret = 'open'")
    assert cards.install(recorded=("secret",))
    cards.run("UPDATE cards SET name = 'b'")
    assert cards.status().columns == ("id", "secret", "name")
    assert "open" in cards.images()


def test_a_column_to_withhold_that_nobody_knows_is_refused_by_name(cards: Cards) -> None:
    with pytest.raises(ConfigurationError, match="cards has no column secrte, which is to be withheld"):
        cards.install(withheld=("secrte",))
    cards.run("ALTER TABLE cards DROP COLUMN secret")
    cards.install(withheld=("secret",))  # the models are behind
    assert cards.status().is_whole
