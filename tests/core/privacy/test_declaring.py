"""What is declared of columns and tables: checked when a bus is made, kept in the database, shown by `history status`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Column, Computed, Integer, MetaData, String, Table

from actionbus import Application, Bus, ConfigurationError
from actionbus.core.declare.personal import declared_of, keep_of, withheld_of
from actionbus.core.history.declared import read_declared
from actionbus.core.history.decoding import ErasedValue
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.core.privacy.clinic import Clinic
from tests.helpers import Run


def made(*columns: Column[Any], **info: Any) -> MetaData:
    metadata = MetaData()
    Table("people", metadata, Column("id", Integer, primary_key=True), *columns, info=info)
    return metadata


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (made(Column("name", String, info={"personal": "nobody"})), "is to be the name of the column of people"),
        (made(Column("name", String, info={"personal": True})), "is to be the name of the column of people"),
        (made(Column("email", String, primary_key=True, info={"personal": "id"})), "part of the primary key"),
        (
            made(Column("who", String, info={"sensitive": True}), Column("name", String, info={"personal": "who"})),
            "nobody could tell whose an old row was",
        ),
        (made(keep="a while"), "keep is to be such as '90 days'"),
        (made(keep=90), "keep is to be such as '90 days'"),
    ],
)
def test_what_could_not_be_kept_is_refused(models: MetaData, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Bus(Application("people", actions=[], models=models), "sqlite://")
    Bus(Application("people", actions=[], models=models, unrecorded=["people"]), "sqlite://")


def test_computed_columns_are_what_they_are_computed_from() -> None:
    models = made(
        Column("name", String, info={"personal": "id"}),
        Column("card", String, info={"sensitive": True}),
        Column("greeting", String, Computed("'Dear ' || name")),
        Column("last", String, Computed('substr("card", 12)')),
        Column("both", String, Computed("last || greeting")),
        Column("cards", Integer, Computed("id + 1")),
    )
    assert withheld_of(models.tables["people"]) == ("card", "last", "both")
    assert declared_of(models)[0].personal == {"name": "id", "greeting": "id"}


@pytest.mark.parametrize(("text", "days"), [("90 days", 90), ("1 day", 1), ("12 weeks", 84), ("10 years", 3650)])
def test_how_long_history_is_kept(text: str, days: int) -> None:
    assert keep_of(text).days == days


def test_a_column_that_was_personal_once_is_erased_when_no_model_has_it_any_more(clinic: Clinic) -> None:
    clinic.run("INSERT INTO visits VALUES (1, 7, 'fever', 5)")
    clinic.bus.close()
    clinic.past("ALTER TABLE visits RENAME COLUMN note TO remark")
    with Bus(Application("clinic", actions=[], models=MetaData()), clinic.url) as bus:
        bus.erase(7)
        with bus.engine.connect() as connection:
            images = connection.exec_driver_sql("SELECT * FROM actionbus_images").all()
    assert not [each for each in images if "fever" in str(each)]


def test_a_renamed_column_is_known_by_its_number(clinic: Clinic) -> None:
    clinic.run("INSERT INTO visits VALUES (1, 7, 'fever', 5)")
    clinic.past("ALTER TABLE visits RENAME COLUMN note TO remark")
    with clinic.bus.engine.begin() as connection:
        install(clinic.bus.backend, connection, [TableWanted("visits")])
    clinic.past("UPDATE visits SET remark = 'cough'")
    clinic.bus.erase(7)
    changes = clinic.bus.history.rows("visits", 1).changes
    assert isinstance(changes[0].after and changes[0].after["remark"], ErasedValue)
    assert isinstance(changes[-1].after and changes[-1].after["remark"], ErasedValue)


def test_another_subject_column_replaces_the_first_and_is_kept(clinic: Clinic) -> None:
    with clinic.bus.engine.begin() as connection:
        kept = read_declared(connection, clinic.bus.backend.prefix)
    told = {name.rpartition(".")[2]: each for name, each in kept.items()}
    assert told["patients"].personal == {"name": "id", "born": "id", "greeting": "id"}
    assert told["patients"].keep == "10 years"
    assert told["visits"].personal == {"note": "patient_id"}
    clinic.bus.create()
    with clinic.bus.engine.begin() as connection:
        assert read_declared(connection, clinic.bus.backend.prefix) == kept
    clinic.models.tables["patients"].info.clear()
    clinic.models.tables["visits"].c.note.info["personal"] = "id"
    clinic.models.tables["scraps"].c.text.info.clear()
    clinic.bus.create()
    with clinic.bus.engine.begin() as connection:
        now = {name.rpartition(".")[2]: e for name, e in read_declared(connection, clinic.bus.backend.prefix).items()}
    assert now["patients"] == told["patients"]._replace(keep=None)
    assert now["visits"].personal == {"note": "id"}
    assert now["scraps"].personal == {"text": "patient_id"}


def test_status_shows_it_and_a_command_erases_without_an_application(
    clinic: Clinic, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTIONBUS_APP")
    clinic.run("INSERT INTO patients (id, name) VALUES (1, 'Ada')", "INSERT INTO visits VALUES (1, 1, 'fever', 5)")
    lines = [json.loads(each) for each in run("history", "status", "--json").stdout.splitlines()]
    told = {each["table"].rpartition(".")[2]: (each["personal"], each["keep"]) for each in lines}
    assert told["visits"] == ({"note": "patient_id"}, None)
    assert told["patients"][1] == "10 years"
    assert "10 years" in run("history", "status").stdout
    assert run("history", "erase", "1", code=130).stdout == ""  # asked, and nobody answered
    erased = json.loads(run("history", "erase", "1", "--yes", "--actor", "clerk", "--json").stdout)
    assert {name.rpartition(".")[2]: count for name, count in erased["images"].items()} == {"patients": 1, "visits": 1}
    assert "1 row of" in run("history", "erase", "1", "--yes").stderr
    assert "(erased)" in run("history", "rows", "visits", "1").stdout
    (row,) = [json.loads(each) for each in run("history", "rows", "visits", "1", "--json").stdout.splitlines()]
    assert set(row["after"]["note"]) == {"$erased"}


def test_personal_columns_are_declared_without_an_application(
    clinic: Clinic, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACTIONBUS_APP")
    clinic.past("CREATE TABLE notes (id INTEGER PRIMARY KEY, who INTEGER, text VARCHAR)")
    run("history", "install", "notes", "--personal", "notes.text=who")
    clinic.past("INSERT INTO notes VALUES (1, 5, 'secret')")
    run("history", "erase", "5", "--yes")
    assert "(erased)" in run("history", "rows", "notes", "1").stdout
    assert "TABLE.COLUMN=SUBJECT" in run("history", "install", "notes", "--personal", "text", code=2).stderr
