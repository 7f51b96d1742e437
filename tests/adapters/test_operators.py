"""What is for operators, over HTTP and on the command line: out of the catalogue, denied without a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from actionbus import Application, Bus, PermissionDenied
from actionbus.adapters import database
from actionbus.adapters.library.app import library
from actionbus.adapters.library.models import Base
from actionbus.adapters.wiring import bus_for, store_for
from actionbus.flask import ActionBus
from actionbus.projections import ProjectionStopped, Projector
from tests.helpers import Run, documents
from tests.projections.notes.app import Notes


class Gate:
    """Lets one actor operate."""

    def __init__(self, actor: str | None) -> None:
        self._actor = actor

    def require(self, permission: str, _arguments: Any) -> None:
        """Raise PermissionDenied unless it is that."""
        if (self._actor, permission) != ("op", "projections:operate"):
            raise PermissionDenied(f"{self._actor} may not")


def gate(actor: str | None) -> Gate:
    return Gate(actor)


@pytest.fixture
def stopped(url: URL, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """The notes, stopped at record 2; with a checkpoint where the test asks for one."""
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    guarded = request.param == "a checkpoint"
    application = Application(
        "notes",
        actions=["tests.projections.notes.actions"],
        projections=[Notes],
        dependencies={"checkpoint": gate} if guarded else {},
    )
    with bus_for(application, url) as bus:
        database.upgrade(bus.engine)
        bus.execute("put_note", {"note": "a", "text": "poison"}, actor="ana")
        with pytest.raises(ProjectionStopped):
            Projector(bus, store_for(bus.engine)).catch_up()
        yield bus


def served(bus: Bus) -> Any:
    app = Flask("test")
    ActionBus(app, bus=bus, authenticate=lambda request: request.headers.get("X-Actor"))
    return app.test_client()


def skip(client: Any, actor: str, **more: object) -> Any:
    about = {"projection": "notes", "of_version": 1, "position": 2} | more
    return client.post("/actions/skip_record", json=about, headers={"X-Actor": actor})


@pytest.mark.parametrize("stopped", ["no checkpoint", "a checkpoint"], indirect=True)
def test_the_catalogue_over_http_has_nothing_for_operators(stopped: Bus) -> None:
    client = served(stopped)
    told = client.get("/actions", headers={"X-Actor": "op"}).get_data(as_text=True)
    assert [action["action"] for action in json.loads(told)["actions"]] == ["drop_note", "put_note", "put_two"]
    described = client.get("/openapi.json", headers={"X-Actor": "op"}).get_data(as_text=True)
    assert "/actions/put_note" in described
    assert "skip_record" not in told + described


@pytest.mark.parametrize("stopped", ["no checkpoint"], indirect=True)
@pytest.mark.parametrize("actor", ["bob", "op"])
def test_without_a_checkpoint_nobody_operates_over_http(stopped: Bus, actor: str) -> None:
    answer = skip(served(stopped), actor)
    assert answer.status_code == 403, answer.get_data(as_text=True)
    assert [record.status for record in stopped.journal.read(action="skip_record", kind="outcome")] == ["denied"]
    with pytest.raises(ProjectionStopped):
        Projector(stopped, store_for(stopped.engine)).catch_up()


@pytest.mark.parametrize("stopped", ["a checkpoint"], indirect=True)
def test_whom_the_checkpoint_lets_operates_over_http_on_what_is_stopped(stopped: Bus) -> None:
    client = served(stopped)
    assert skip(client, "bob").status_code == 403
    for field, wrong in (("position", 1), ("of_version", 2), ("projection", "nothing"), ("position", 10**900)):
        answer = skip(client, "op", **{field: wrong})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [field])
    assert skip(client, "op").status_code == 200
    assert Projector(stopped, store_for(stopped.engine)).catch_up()["notes"] > 2


def test_in_the_reference_application_nobody_is_an_operator_but_who_has_the_database(url: URL) -> None:
    with bus_for(library, url) as bus:
        database.upgrade(bus.engine)
        Base.metadata.create_all(bus.engine)
        about = {"projection": "assets", "of_version": 1, "position": 2}
        with pytest.raises(PermissionDenied):
            bus.execute("skip_record", about, actor="bob")


@pytest.fixture
def cli(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line over the notes."""
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    return run


def test_the_command_line_marks_what_is_for_operators(cli: Run) -> None:
    marked = [each["action"] for each in documents(cli("actions", "--json")) if each.get("for_operators")]
    assert marked == ["move_subscription", "pause_feeding", "resume_feeding", "skip_record"]
    lines = {line.split()[0]: line for line in cli("actions").stdout.splitlines() if line.strip()}
    assert [name for name, line in lines.items() if "(for operators)" in line] == marked
    assert "for operators" in cli("actions", "skip_record").stdout
    assert "for operators" not in cli("actions", "put_note").stdout


def test_fed_from_cron_a_projection_that_stops_is_shown_and_its_record_left_out(cli: Run) -> None:
    for note, text in (("a", "fine"), ("b", "poison"), ("c", "fine")):
        cli("run", "put_note", "--note", note, "--text", text, "--shelves", "top", "--actor", "ana")
    assert "notes stopped before record 4" in cli("projections", "run", "--once", code=1).stderr
    states = {each["projection"]: each["state"] for each in documents(cli("projections", "status", "--json"))}
    assert states == {"notes": "stopped", "shelves": "idle", "refusals": "idle"}
    assert "actionbus projections skip notes" in cli("projections", "status").stdout
    assert "by record 2" in cli("projections", "skip", "notes", "--position", "2", code=2).stderr
    assert "goes on without record 4" in cli("projections", "skip", "notes", "--actor", "op").stdout
    assert "notes at" in cli("projections", "run", "--once").stdout
    assert "is served by" in cli("projections", "rebuild", "notes").stdout
    found = documents(cli("search", "--in", "notes", "fine", "--json"))
    assert sorted(hit["key"] for hit in found) == ["a", "c"]


def test_on_the_command_line_an_operators_decision_is_checked_like_any(cli: Run) -> None:
    cli("run", "put_note", "--note", "b", "--text", "poison", "--actor", "ana")
    cli("projections", "run", "--once", code=1)
    about = ["run", "skip_record", "--projection", "notes", "--of-version", "1", "--position"]
    assert "is stopped by 2" in cli(*about, "1", code=3).stderr
    cli(*about, "2")
    assert "notes at" in cli("projections", "run", "--once").stdout


def test_rebuild_takes_a_name_over_only_when_told_so(cli: Run, url: URL) -> None:
    cli("run", "put_note", "--note", "a", "--text", "ours", "--actor", "ana")
    cli("projections", "run", "--once")
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE projection_indices SET journal = 'another' WHERE projection = 'notes'"))
        connection.execute(text("DELETE FROM actionbus_checkpoints WHERE projection = 'notes'"))
    engine.dispose()
    assert "--take-over" in cli("projections", "rebuild", "notes", code=1).stderr
    assert "is served by" in cli("projections", "rebuild", "notes", "--take-over").stdout
    assert "removed 0 indices" in cli("projections", "prune").stdout
