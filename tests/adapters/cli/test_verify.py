"""`actionbus projections verify` as an operator and a CI job meet it."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from tests.helpers import Run, documents


@pytest.fixture
def cli(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line over two notes that were projected."""
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    for note in ("a", "b"):
        run("run", "put_note", "--note", note, "--text", "fine", "--actor", "ana")
    run("projections", "run", "--once")
    return run


def test_it_is_silent_where_all_is_right_and_names_field_and_values_where_not(cli: Run, url: URL) -> None:
    assert "2 documents, none of which differs" in cli("projections", "verify", "notes", "--all").stdout
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE projection_documents SET document = replace(document, 'fine', 'false') WHERE key = 'a'")
        )
    engine.dispose()
    shown = cli("projections", "verify", "notes", "--all", code=1).stdout
    assert "differing a (version 2)" in shown
    assert "text: 'false' → 'fine'" in shown
    assert "1 of 2 documents differ from the journal" in shown
    first, last = documents(cli("projections", "verify", "notes", "--json", code=1))
    assert (first["key"], first["kind"], first["version"]) == ("a", "differing", 2)
    assert (first["stored"]["text"], first["folded"]["text"]) == ("false", "fine")
    assert (last["right"], last["differences"], last["documents"]) == (False, 1, 2)
    told = {each["projection"]: each for each in documents(cli("projections", "status", "--json"))}
    assert told["notes"]["verified"]["differences"] == 1
    assert told["shelves"]["verified"] is None
    assert "differ from the journal: `actionbus projections rebuild notes`" in cli("projections", "status").stdout
