"""`actionbus projections`, `search` and `elasticsearch` as an operator meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from actionbus import Bus
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.local_elasticsearch import install
from actionbus.adapters.local_elasticsearch.install import Jar, NotInstallable
from actionbus.adapters.local_elasticsearch.server import LocalServer, _free_port
from actionbus.adapters.wiring import store_for
from actionbus.projections import Projection, Projector, on
from tests import processes
from tests.conftest import TORTURE
from tests.helpers import Run, documents
from tests.projections.notes.app import make_application
from tests.waiting import PATIENCE_S, eventually

PLACES = [
    (database, store)
    for database in ("sqlite", "postgresql")
    for store in ("embedded", "elasticsearch")
    if TORTURE or (database, store) in (("sqlite", "embedded"), ("postgresql", "elasticsearch"))
]
everywhere = pytest.mark.parametrize(("url", "cli"), PLACES, indirect=True)
"""On each database and store; on two pairs of them but in `make torture`."""


@pytest.fixture
def cli(run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line over the notes, on the store that is asked for."""
    url = "embedded"
    if request.param == "elasticsearch":
        request.getfixturevalue("elasticsearch_store")
        url = request.getfixturevalue("elasticsearch_url")
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", url)
    return run


def states(cli: Run) -> dict[str, dict[str, Any]]:
    return {each["projection"]: each for each in documents(cli("projections", "status", "--json"))}


def put(cli: Run, note: str, text: str) -> None:
    cli("run", "put_note", "--note", note, "--text", text, "--shelves", "top", "--actor", "ana")


@pytest.mark.parametrize(("url", "cli"), PLACES[:1], indirect=True)
def test_what_is_left_of_a_projection_is_shown_and_forgotten(cli: Run, bus: Bus) -> None:
    class Renamed(Projection):
        @on("put_note", key="note")
        def put(self, document: Any, record: Any) -> Any:
            """Only there to leave an index."""
            return {}

    put(cli, "a", "red apple")
    cli("projections", "run", "--once")
    with Bus(make_application(Renamed), bus.engine.url) as other:
        Projector(other, EmbeddedStore(other.engine)).catch_up()
    assert states(cli)["renamed"]["role"] == "left"
    assert "`actionbus projections forget renamed` removes that" in cli("projections", "status").stdout
    assert "take it out of that first" in cli("projections", "forget", "notes", code=1).stderr
    assert cli("projections", "forget", "renamed").stdout == "removed 1 index of renamed\n"
    assert "nothing is known of a projection 'renamed'" in cli("projections", "forget", "renamed", code=1).stderr
    assert "renamed" not in states(cli)


@everywhere
def test_phrases_ranges_orders_and_all_there_is(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for note, text in (("a", "red apple"), ("b", "apple red"), ("c", "red app")):
        put(cli, note, text)
    put(cli, "a", "red apple pie")
    cli("projections", "run", "--once")

    def keys(*options: str) -> list[str]:
        return [each["key"] for each in documents(cli("search", "--in", "notes", *options, "--json"))]

    assert keys("red", "apple", "--match", "phrase") == ["a"]
    assert set(keys("red", "app", "--match", "prefix")) == {"a", "b", "c"}
    assert keys("--range", "changes:gte:1") == ["a"]
    assert keys("--sort", "-changes", "--limit", "1") == ["a"]
    monkeypatch.setattr("actionbus.adapters.cli.search._AT_ONCE", 1)
    assert keys("--all", "--sort", "-changes")[0] == "a"
    assert sorted(keys("--all")) == ["a", "b", "c"]
    shown = cli("search", "--in", "notes", "--all", "--facet", "shelves").stdout
    assert ("3 found" in shown, shown.count("shelves: top 3")) == (True, 1)
    for refused in (
        ["--range", "changes"],
        ["--range", "changes:eq:1"],
        ["--range", "changes:gt:x"],
        ["--sort", "text"],
        ["x", "--page", "1001"],
        ["--match", "regexp"],
        ["x " * 201],
    ):
        assert "Traceback" not in cli("search", "--in", "notes", *refused, code=2).stderr


@everywhere
def test_a_key_is_never_cut_and_nothing_found_says_where_else_to_look(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "k" * 30
    put(cli, key, "many words " * 20)
    put(cli, "short", "few words")
    cli("projections", "run", "--once")
    monkeypatch.setenv("COLUMNS", "60")
    shown = cli("search", "--in", "notes", "words").stdout.splitlines()
    assert all(len(each) <= 60 for each in shown)
    assert any(each.endswith(f"…  {key}") for each in shown)
    assert any(each.endswith("  short") for each in shown)
    assert "0 found; elsewhere: --in shelves" in cli("search", "nowhere").stdout


@everywhere
def test_feed_search_and_look_after(cli: Run) -> None:
    assert {each["state"] for each in states(cli).values()} == {"new"}
    put(cli, "a", "The origin of species")
    put(cli, "b", "A brief history of time")
    assert "notes at" in cli("projections", "run", "--once").stdout
    shown = cli("projections", "status").stdout
    assert "serving" in shown
    assert "idle" in shown
    cli("projections", "status", "--check", code=1)
    found = cli("search", "--in", "notes", "HISTORY", "--facet", "shelves", "--where", "shelves=top").stdout
    assert "A brief history of time" in found
    assert "shelves: top 1" in found
    assert "1 found" in found
    hit = documents(cli("search", "--in", "notes", "history", "--json"))[0]
    assert (hit["key"], hit["document"]["number"]) == ("b", 0)
    assert hit["highlights"]["text"] == ["A brief <em>history</em> of time"]
    assert cli("search", "--in", "notes", "nowhere", "--json").stdout == ""
    assert "there is no projection 'nothing'" in cli("search", "--in", "nothing", "x", code=2).stderr
    assert "not of the form FIELD=VALUE" in cli("search", "--where", "x", code=2).stderr
    assert "notes has no field '_id'" in cli("search", "--in", "notes", "--where", "_id=a", code=2).stderr
    assert "there is no projection 'x'" in cli("projections", "rebuild", "x", code=1).stderr
    assert "is not a slice" in cli("projections", "run", "--slices", "3/2", code=2).stderr


@everywhere
def test_stopped_skipped_and_rebuilt(cli: Run) -> None:
    put(cli, "a", "fine")
    put(cli, "b", "poison")
    put(cli, "c", "fine")
    told = cli("projections", "run", "notes", "--once", code=1).stderr
    assert "notes stopped before record 4" in told
    assert "cannot be digested" in told
    assert states(cli)["notes"]["state"] == "stopped"
    assert "is tried again" in cli("projections", "retry", "notes").stdout
    assert "is not stopped" in cli("projections", "skip", "notes", code=2).stderr, "it is to be tried again first"
    assert "is not stopped" in cli("projections", "retry", "notes").stdout


@everywhere
def test_rebuild_dry_run_rollback_and_prune(cli: Run) -> None:
    put(cli, "a", "one")
    cli("projections", "run", "--once")
    assert "0 documents would differ" in cli("projections", "rebuild", "notes", "--dry-run").stdout
    before = states(cli)["notes"]["index"]
    assert "is kept until `prune`" in cli("projections", "rebuild", "notes").stdout
    assert before in cli("projections", "rebuild", "notes", "--rollback").stdout
    assert "exclude each other" in cli("projections", "rebuild", "notes", "--rollback", "--dry-run", code=2).stderr
    assert "removed 1 index and 0 tombstones" in cli("projections", "prune").stdout


@everywhere
def test_a_running_projector_serves_metrics_and_stops_on_sigterm(cli: Run) -> None:
    put(cli, "a", "one")
    port = _free_port()
    line = [sys.executable, "-m", "actionbus", "projections", "run", "--metrics", str(port)]
    process = processes.Popen(line, env=os.environ | {"PYTHONWARNINGS": "error"}, stderr=subprocess.PIPE)
    try:
        eventually(
            lambda: all(each["healthy"] and each["lag_positions"] == 0 for each in states(cli).values()),
            "everything is absorbed",
        )
        cli("projections", "status", "--check", "--max-lag", "60s")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            metrics = response.read().decode()
        assert 'actionbus_projection_healthy{index="notes-v1-' in metrics
        assert "actionbus_projection_lag_positions" in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, printed
    assert {each["state"] for each in states(cli).values()} == {"idle"}


@everywhere
def test_what_stopped_a_projection_is_shown_and_skipped(cli: Run) -> None:
    put(cli, "a", "poison")
    process = processes.Popen(
        [sys.executable, "-m", "actionbus", "projections", "run", "notes"], env=os.environ, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: states(cli)["notes"]["state"] == "stopped", "the projection is stopped")
        shown = cli("projections", "status").stdout
        assert "RuntimeError: cannot be digested" in shown
        assert "actionbus projections skip notes" in shown
        assert "is tried again" in cli("projections", "retry", "notes").stdout
        eventually(lambda: states(cli)["notes"]["state"] == "stopped", "the projection is stopped again")
        assert "goes on without record 2" in cli("projections", "skip", "notes", "--actor", "op").stdout
        eventually(lambda: not states(cli)["notes"]["lag_positions"], "the rest is absorbed")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    decision = documents(cli("log", "--action", "skip_record", "--status", "succeeded", "--json"))[0]
    assert decision["actor"] == "op"


@everywhere
def test_the_local_server_is_told_of(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "does not run" in cli("elasticsearch", "status", code=1).stdout
    assert json.loads(cli("elasticsearch", "status", "--json", code=1).stdout)["url"] is None
    assert "does not run" in cli("elasticsearch", "stop").stdout


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIONBUS_CACHE", str(tmp_path / "cache"))
    mirror = tmp_path / "mirror"
    (mirror / "org").mkdir(parents=True)
    (mirror / "org" / "a.jar").write_bytes(b"evil")
    monkeypatch.setenv("ACTIONBUS_MAVEN_URL", mirror.as_uri())
    monkeypatch.setattr(install, "locked_jars", lambda: [Jar("0" * 64, 4, "lib", "org/a.jar")])
    with pytest.raises(NotInstallable, match="SHA-256 differs"):
        install.install()
    monkeypatch.setattr(install, "locked_jars", lambda: [Jar("0" * 64, 4, "lib", "org/b.jar")])
    with pytest.raises(NotInstallable, match="cannot be fetched"):
        install.install()


def test_a_stale_state_file_is_no_running_server(tmp_path: Path) -> None:
    server = LocalServer(tmp_path)
    (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid(), "port": 9200}))
    assert server.url() is None, "the process is there, but it is no Elasticsearch"
    assert server.stop() is False


class Wordy(Projection):
    """Documents whose text could steer a terminal."""

    mappings = {"properties": {"name": {"type": "text"}}}

    @on("put_note", key="note")
    def put(self, document: object, record: Any) -> dict[str, str]:
        """As it is."""
        return {"name": record.arguments["text"]}


def test_es_repo_reads_projections_and_writes_what_is_the_applications_own(tmp_path: Path) -> None:
    from actionbus.core.storage.ddl import create
    from actionbus.projections import Projector
    from actionbus.search import EsRepo

    bus = Bus(make_application(Wordy), f"sqlite:///{tmp_path / 'x.db'}")
    with bus.engine.begin() as connection:
        create(connection)
    store = store_for(bus.engine, where="embedded")
    bus.execute("put_note", {"note": "1", "text": "evil \x1b[31m text"})
    Projector(bus, store).catch_up()
    repo = EsRepo(store)
    assert repo.get("wordy", "1") == {"name": "evil \x1b[31m text"}
    assert repo.search("wordy", "evil").hits[0].key == "1"
    repo.put("own_things", "k", {"n": 1}, version=3)
    repo.put("own_things", "k", {"n": 0}, version=2)
    assert repo.get("own_things", "k") == {"n": 1}
    repo.remove("own_things", "k", 4, "2026-01-01T00:00:00+00:00")
    assert repo.get("own_things", "k") is None
    with pytest.raises(ValueError, match="is fed by a projection"):
        repo.put("wordy", "1", {}, version=9)
    bus.close()
