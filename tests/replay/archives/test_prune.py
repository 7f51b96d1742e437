"""Row images older than their table is to be kept go behind a baseline; what is told from there on is as before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived
from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.history.declared import declare
from actionbus.replay.archives.prune import prune
from tests.replay.archives.history import nobody, told
from tests.shop.app import make_application


def test_what_is_older_than_it_is_to_be_kept_goes(url: URL) -> None:
    with Bus(make_application(), url) as bus:
        bus.create()
        with bus.engine.begin() as connection:
            declare(bus.backend, connection, [TableDeclaration("accounts", None, {}, "1 day")])
        bus.execute("open_account", {"id": 1, "name": "a"})
        for _ in range(4):
            bus.execute("deposit", {"id": 1})
        end = bus.journal.settled()
        before = told(bus, end)
        now = datetime.now(UTC)
        assert prune(bus, operator=True, watch=nobody, now=now) == {}
        done = prune(bus, operator=True, watch=nobody, now=now + timedelta(days=1))
        (name,) = done
        assert name.endswith("accounts")
        assert done[name]["upto"] == end
        bus.execute("deposit", {"id": 1, "amount": 7})
        assert told(bus, end) == before
        assert len(bus.history.rows("entries", 1).changes) == 1, "no other table is touched"
        with pytest.raises(HistoryArchived, match="pruned"):
            bus.history.state("accounts", end - 1)
        with pytest.raises(HistoryArchived, match="pruned"):
            bus.history.diff(end - 1)
        first, last = bus.history.rows("accounts", 1).changes
        assert (first.operation, first.who.shown()["action"]) == ("baseline", "prune_history")
        assert last.columns() == ["balance"]
        assert bus.history.bisect("SELECT balance > 5 FROM accounts").source is not None
        assert len(list(bus.journal.read())) == end + 4, "records stay"
        with bus.engine.connect() as connection:
            images = text(
                "SELECT count(*) FROM actionbus_images i JOIN actionbus_shapes s ON s.shape = i.shape "
                "WHERE s.table_name LIKE '%accounts'"
            )
            assert connection.execute(images).scalar_one() == 2
