"""A journal that is not the one an index was made from is found out: made anew, or restored from an older dump."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from actionbus.projections import NeedsRebuild, Projector
from actionbus.projections.ledger import Ledger
from tests.projections.conftest import MakeWorld
from tests.projections.notes.app import Notes, expected_notes
from tests.projections.running import running
from tests.projections.waiting import PATIENCE_S, Calls, eventually


def test_a_journal_made_anew_under_a_living_index_is_found_out(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_real_world(Notes)
    for number in range(10):
        world.put(f"n{number}")
    world.catch_up()
    with world.bus.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    anew = make_real_world(Notes)
    anew.put("other", "x")
    with pytest.raises(NeedsRebuild, match="knows nothing of"):
        anew.catch_up()
    looks = Calls(monkeypatch, Projector, "_fed")
    with running(anew):
        looks.more(3)
    assert anew.operations.status()[0].state == "stopped"
    assert len(anew.documents()) == 10, "nothing was written to what belongs to another journal"
    theirs = anew.store.aliased("notes")
    anew.operations.rebuild("notes", take_over=True)
    assert anew.documents() == expected_notes(anew.bus)
    assert anew.operations.prune()["indices"] == 0
    assert theirs in anew.store.indices("notes"), "what belongs to another journal is its own to remove"


def test_a_journal_restored_from_an_older_dump_is_found_out_even_by_a_living_projector(
    make_real_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dump and restore are done table by table, so that the projector keeps its connections and notices by itself."""
    world = make_real_world(Notes)
    world.put("a", "kept")
    with running(world):
        world.operations.wait_for("notes", world.put("b", "kept"), PATIENCE_S)
        tables = ("journal", "actionbus_checkpoints")
        with world.bus.engine.begin() as connection:
            for table in tables:
                connection.execute(text(f"CREATE TABLE dump_{table} AS SELECT * FROM {table}"))
        for number in range(5):
            last = world.put(f"lost {number}", "lost")
        world.operations.wait_for("notes", last, PATIENCE_S)
        with world.bus.engine.begin() as connection:
            connection.execute(text("ALTER TABLE journal DISABLE TRIGGER ALL"))
            for table in tables:
                connection.execute(text(f"DELETE FROM {table}"))
                override = "OVERRIDING SYSTEM VALUE " if table == "journal" else ""
                connection.execute(text(f"INSERT INTO {table} {override}SELECT * FROM dump_{table}"))
            connection.execute(
                text(
                    "ALTER TABLE journal ENABLE ALWAYS TRIGGER ALL".replace(
                        "TRIGGER ALL", "TRIGGER journal_append_only"
                    )
                )
            )
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence('journal', 'position'), max(position)) FROM journal")
            )
        world.bus.journal.look_again()
        eventually(lambda: world.operations.status()[0].state == "stopped")
        told = world.operations.status()[0].detail
        assert "restored" in told["message"]
        assert "projections rebuild notes" in told["message"]
        world.put("c", "after the restore")
        Calls(monkeypatch, Ledger, "sign_of_life").more(2)
        assert "c" not in world.documents()
        world.operations.rebuild("notes")
        world.operations.wait_for("notes", world.put("d", "goes on"), PATIENCE_S)
    assert world.documents() == expected_notes(world.bus)
