"""Documents of projections at a point in history."""

from __future__ import annotations

from sqlalchemy.engine import URL

from actionbus.adapters.library.projections.kits import Kits
from actionbus.replay.documents import documents_at
from tests.replay.conftest import MakeCopy, attempt, open_bus


def test_documents_as_they_were(url: URL, make_copy: MakeCopy) -> None:
    with open_bus(make_copy().application(), url) as bus:
        kit = attempt(bus, "ana", "create_kit", name="Icons")["kit_id"]
        before = bus.journal.last()
        attempt(bus, "ana", "rename_kit", kit_id=kit, name="Signs")
        assert documents_at(bus.journal, Kits, before)[kit]["name"] == "Icons"
        assert documents_at(bus.journal, Kits, bus.journal.last())[kit]["name"] == "Signs"
        assert documents_at(bus.journal, Kits, 0) == {}
