"""The position of a new record lies above every other, or nothing is written."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, JournalUnavailable
from tests.conftest import create_tables, query
from tests.shop.app import make_application

BEHIND = {
    "at the beginning": "SELECT setval({sequence}, 1, false)",
    "one behind": "SELECT setval({sequence}, 3)",
}


@pytest.mark.parametrize("schema", [None, "audit", "o'brien"])
@pytest.mark.parametrize("behind", BEHIND)
def test_a_sequence_that_is_behind_is_refused_until_it_is_set(
    postgres_url: URL, behind: str, schema: str | None
) -> None:
    with Bus(make_application(), postgres_url, schema=schema) as bus:
        bus.journal.create()
        create_tables(bus.engine)
        for number in (1, 2):
            bus.execute("open_account", {"id": number, "name": f"{number}"})
        name = (bus.backend.prefix + "journal_position_seq").replace("'", "''")
        query(postgres_url, BEHIND[behind].format(sequence=f"'{name}'"))
    with Bus(make_application(), postgres_url, schema=schema) as bus:
        with pytest.raises(JournalUnavailable, match="nothing was run") as caught:
            bus.execute("open_account", {"id": 3, "name": "3"})
        assert bus.journal.last() == 4
        query(postgres_url, str(caught.value).partition("has to run ")[2])
        assert bus.execute("open_account", {"id": 3, "name": "3"}).position == 6
        assert [record.position for record in bus.journal.read()] == [1, 2, 3, 4, 5, 6]
