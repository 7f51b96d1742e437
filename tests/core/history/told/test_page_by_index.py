"""A page of a table's state is read from the index of keys on PostgreSQL, not sorted out of all images up to there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from actionbus.core.history import images_postgresql
from actionbus.core.history.states import Rows
from tests.conftest import BusFactory
from tests.core.history.capturing import TABLE, Captured

ROWS, WRITES = 4_000, 40
READ = """SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
    WHERE relname = 'actionbus_images'"""


@pytest.mark.parametrize("writes", [10, 25, 40])
def test_few_images_are_read_for_a_page_wherever_it_lies(
    make_postgres_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    monkeypatch.setattr(images_postgresql, "_MANY_FOR_A_PAGE", 500)
    captured = Captured(make_postgres_bus())
    captured.run(TABLE)
    captured.install("things")
    for number in range(1, WRITES + 1):
        captured.run(f"INSERT INTO things SELECT n, 'v' FROM generate_series({number}, {ROWS}, {WRITES}) n")
    with captured.bus.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE actionbus_images"))
    at = captured.bus.journal.last() - WRITES + writes
    with captured.bus.history.opened(at) as opened:
        opened.images.later(opened.cut)  # which looks at as many images as stand together, and is known from then on
        before = read(opened.images)
        found = list(Rows(opened.images, opened.one("things"), opened.cut).columns(limit=20))
        assert len(found) == 20
        assert all(0 < (row["id"] % WRITES or WRITES) <= writes for row in found)
        assert read(opened.images) - before < ROWS // 20


def read(images: Any) -> int:
    """Rows of images that this transaction has read."""
    return int(images.rows_of(READ)[0][0])
