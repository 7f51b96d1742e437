"""What was archived is read where it lies, and a journal of which some is archived can be carried elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived
from actionbus.replay.archives import transfer
from actionbus.replay.archives.folders import JOURNAL
from tests.replay.archives.history import archived, live, told
from tests.shop.app import make_application


@pytest.mark.parametrize("what", ["the archive", "what is left"])
def test_it_is_told_elsewhere_as_it_was(url: URL, elsewhere: Bus, tmp_path: Path, what: str) -> None:
    with Bus(make_application(), url) as bus:
        bus.create()
        live(bus, 25)
        upto = bus.journal.settled()
        live(bus, 15, seed=2)
        end = bus.journal.settled()
        before = {position: told(bus, position) for position in (upto // 2, upto, (upto + end) // 2, end)}
        done = archived(bus, upto, tmp_path / "a")
        path = tmp_path / "a" / JOURNAL
        if what == "what is left":
            path = tmp_path / "left.gz"
            transfer.export(bus.journal, path, history=bus.history)
    transfer.import_into(elsewhere, path)
    is_archive = what == "the archive"
    for position, state in before.items():
        if (position <= done.upto) == is_archive or position == done.upto:
            assert told(elsewhere, position) == state
    if not is_archive:
        with pytest.raises(HistoryArchived, match=str(tmp_path / "a")):
            elsewhere.history.state(None, done.upto - 1)
        changes = elsewhere.history.rows("accounts", 1, done.upto).changes if told(elsewhere, done.upto) else []
        assert all(each.operation == "baseline" for each in changes)
