"""Installing on PostgreSQL begins with a baseline, refuses by name, waits for nobody for ever; status names what is broken."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import JournalUnavailable
from actionbus.core.errors import ConfigurationError
from actionbus.core.history import postgresql
from tests.conftest import BusFactory
from tests.core.history.capturing import TABLE, Captured


def test_status_names_what_was_switched_off_and_a_baseline_mends_it(captured: Captured) -> None:
    captured.run(TABLE)
    captured.install("things")
    assert captured.status("things")[0].is_whole
    captured.run(
        "ALTER TABLE things DISABLE TRIGGER ALL",
        "INSERT INTO things VALUES (1, 'a')",
        "ALTER TABLE things ENABLE TRIGGER ALL",
    )
    assert "ENABLE ALWAYS" in captured.status("things")[0].problems[0]
    assert captured.install("things") == ["public.things"]
    assert captured.status("things")[0].is_whole
    assert captured.folded("things") == captured.actual("things")


def test_installing_begins_with_a_baseline_and_does_nothing_twice(captured: Captured) -> None:
    captured.run(TABLE, "CREATE TABLE empty (id int)", "INSERT INTO things VALUES (1, 'a')")
    assert captured.install("things", "empty") == ["public.things", "public.empty"]
    assert captured.install("things", "empty") == []
    assert captured.operations() == "b"
    made = captured.rows("SELECT context FROM journal WHERE kind = 'bypass'")
    assert [context["baseline"] for (context,) in made] == [["public.things", "public.empty"]]
    captured.run("ALTER TABLE things ADD more int DEFAULT 5")
    assert "not recorded yet" in captured.status("things")[0].problems[0]
    assert captured.install("things") == ["public.things"]
    assert captured.operations() == "b"
    assert captured.install("things", baseline=True) == ["public.things"]
    assert captured.folded("things") == captured.actual("things") == {"(1,a,5)": 1}


def test_what_cannot_be_recorded_is_refused_by_name(captured: Captured) -> None:
    captured.run("CREATE VIEW seen AS SELECT 1 AS id")
    for name in ("seen", "journal", "nowhere"):
        with pytest.raises(ConfigurationError, match=name):
            captured.install(name)


def test_installing_does_not_wait_for_ever(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_LOCK_TIMEOUT", "50ms")
    captured.run(TABLE)
    with captured.bus.engine.begin() as other:
        other.exec_driver_sql("INSERT INTO things VALUES (1, 'a')")
        with pytest.raises(JournalUnavailable, match="things could not be locked"):
            captured.install("things")


def test_the_smallest_role_writes_its_table_and_no_images(
    captured: Captured, make_postgres_bus: BusFactory, postgres_url: URL
) -> None:
    captured.run(TABLE)
    captured.install("things")
    captured.run(
        "DROP ROLE IF EXISTS small",
        "CREATE ROLE small",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON things TO small",
        "ALTER TABLE things ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON things USING (id < 100)",
        "CREATE TABLE own (id int)",
        "ALTER TABLE own OWNER TO small",
    )
    try:
        captured.run("SET LOCAL ROLE small", "INSERT INTO things VALUES (1, 'a')", "UPDATE things SET v = 'b'")
        [(context, _, _)] = captured.bypasses()
        assert (context["user"], context["role"]) == ("postgres", "small")
        for forged in (
            "INSERT INTO actionbus_images (shape, operation, xid) VALUES (1, 'i', 1)",
            "INSERT INTO actionbus_bypasses VALUES (1)",
            "CREATE TRIGGER mine AFTER INSERT ON own REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION actionbus_image_1_insert()",
        ):
            with pytest.raises(Exception, match="permission denied"):
                captured.run("SET LOCAL ROLE small", forged)
        assert captured.folded("things") == captured.actual("things")
    finally:
        captured.run("DROP OWNED BY small", "DROP ROLE small")
