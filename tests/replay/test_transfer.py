"""Journals taken elsewhere: exported, imported, with pseudonyms."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from actionbus import Bus
from actionbus.replay import Replayer, ReplayError
from actionbus.replay.archives.lines import header
from actionbus.replay.archives.transfer import export, import_into
from tests.conftest import create_tables, prepared
from tests.replay.conftest import MakeCopy, fill, live, open_bus
from tests.shop.app import make_application


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        yield bus


def test_out_of_one_journal_into_another(bus: Bus, tmp_path: Path, server: Any) -> None:
    fill(bus)
    bus.execute("notify", {"to": "ann"})
    path = tmp_path / "journal.gz"
    count = export(bus.journal, path)
    assert count == bus.journal.count(kind=None)
    assert header(path)["dialect"] == bus.journal.dialect
    other = make_url("sqlite://") if bus.journal.dialect == "postgresql" else server.database()
    for url in (make_url("sqlite://"), other):
        with Bus(make_application(), url) as laptop:
            laptop.journal.create()
            create_tables(laptop.engine)
            assert import_into(laptop, path) == count
            # On PostgreSQL the numbers of transactions are others, there and in snapshots.
            ours = [record.replaced(xid=None, seen=None) for record in bus.journal.read()]
            assert [record.replaced(xid=None, seen=None) for record in laptop.journal.read()] == ours
            assert laptop.journal.identity() == bus.journal.identity()
            with pytest.raises(ReplayError, match="is not empty"):
                import_into(laptop, path)
            assert laptop.execute("draw").position > bus.journal.last(), "the journal goes on"
    if other.get_backend_name() == "postgresql":
        server.drop(other)


def test_an_import_is_whole_or_not_at_all(sqlite_url: URL, tmp_path: Path) -> None:
    prepared(sqlite_url)
    with Bus(make_application(), sqlite_url) as bus:
        fill(bus)
        path = tmp_path / "journal.gz"
        export(bus.journal, path)
    whole = path.read_bytes()
    for cut in (whole[: len(whole) // 2], b"not gzip", gzip.compress(b'{"format": 99}\n')):
        path.write_bytes(cut)
        with open_bus(make_application(), make_url("sqlite://")) as laptop:
            with pytest.raises(ReplayError, match="is not an exported journal"):
                import_into(laptop, path)
            assert laptop.journal.last() == 0


def test_pseudonyms(url: URL, tmp_path: Path, make_copy: MakeCopy) -> None:
    """The same value gets the same one everywhere, nothing of it is left, and history still replays."""
    with open_bus(make_copy().application(), url) as bus:
        live(bus)
        path = tmp_path / "journal.gz"
        export(bus.journal, tmp_path / "names.gz", pseudonymize=["name"])
        export(bus.journal, path, pseudonymize=["actor", "member"])
    names = gzip.decompress((tmp_path / "names.gz").read_bytes()).decode()
    assert not [name for name in ("Icons", "Photos", "Signs", "Copy") if name in names]
    told = gzip.decompress(path.read_bytes()).decode()
    assert not [name for name in ("ana", "ben", "cleo", "dora") if re.search(rf"\b{name}\b", told)]
    assert json.loads(told.splitlines()[0])["pseudonymized"] == ["actor", "member"]
    with open_bus(make_copy().application(), make_url("sqlite://")) as laptop:
        import_into(laptop, path)
        with Replayer(laptop.journal, make_copy().application()) as replayer:
            steps = list(replayer.verify())
        # Who may issue tokens is told by the actor's name, which is another one here.
        divergent = [(step, step.differences) for step in steps if step.verdict == "divergent"]
        assert [each for each in divergent if each[0].entry.submitted.action != "add_token"] == []
