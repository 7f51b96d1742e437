"""Jobs inside of an application: whichever of its processes is asked, each as far as the checkpoint lets the caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from actionbus import Application, Bus
from actionbus.adapters.http.job_settings import jobs_of, path_of
from actionbus.adapters.http.jobs import MOST_AT_A_TIME, Jobs
from actionbus.flask import ActionBus
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.helpers import ROOT
from tests.waiting import eventually

APP = "tests.adapters.inspector.inn.app:inn"


class Mounted:
    """A process's view of the application: an app and a bus of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.bus = Bus(inn, url)
        app = Flask("front")
        app.config.update(
            ACTIONBUS_ELASTICSEARCH_URL="embedded",
            ACTIONBUS_INSPECTOR=True,
            ACTIONBUS_APP=APP,
            ACTIONBUS_JOBS=str(folder),
        )
        ActionBus(app, bus=self.bus, authenticate=lambda request: request.headers.get("X-Actor"), inspector=True)
        self._client = app.test_client()

    def ask(self, method: str, path: str, who: str = "manager", expected: int = 200, **given: Any) -> Any:
        """The answer's JSON."""
        response = self._client.open(path, method=method, headers={"X-Actor": who}, **given)
        assert response.status_code == expected, response.text
        return response.get_json() if response.is_json else response.text

    def begin(self, who: str = "manager", **given: str) -> str:
        """The id of a job."""
        found: str = self.ask("POST", "/history/jobs", who, 202, json=given)["id"]
        return found

    def ended(self, name: str) -> Any:
        """A job, when it is over."""
        eventually(lambda: self.ask("GET", f"/history/jobs/{name}")["state"] != "running", "it ends")
        return self.ask("GET", f"/history/jobs/{name}")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mounted, Mounted]]:
    """Two processes of one application, as gunicorn has them."""
    folder: Path = tmp_path_factory.mktemp("mounted")
    url = f"sqlite:///{folder / 'inn.db'}"
    one, other = Mounted(url, folder / "kept"), Mounted(url, folder / "kept")
    one.bus.create()
    tell(one.bus)
    yield one, other
    one.bus.close()
    other.bus.close()


def test_a_bisect_begun_over_one_process_is_told_by_the_other(two: tuple[Mounted, Mounted]) -> None:
    one, other = two
    before = one.bus.journal.settled()
    name = one.begin(kind="bisect", table="reservations", key="r-dora", column="price", value="720")
    found = other.ended(name)
    assert (found["state"], found["lines"]) == ("done", [])
    assert found["actor"] == "manager"
    assert found["answer"][0]["position"] == 23
    assert found["answer"][0]["actor"] == "channel-import"
    assert name in [each["id"] for each in other.ask("GET", "/history/jobs")["jobs"]]
    assert one.bus.journal.settled() == before, "it is no action"
    page = other.ask("GET", f"/inspector/jobs/{name}")
    assert "position 23" in page


def test_whoever_looks_may_end_it_and_places_are_shared(two: tuple[Mounted, Mounted], tmp_path: Path) -> None:
    settings = {"ACTIONBUS_APP": APP, "ACTIONBUS_DATABASE_URL": str(two[0].bus.engine.url), "PYTHONPATH": str(ROOT)}
    one, other = Jobs(tmp_path, settings), Jobs(tmp_path, settings)
    names = [each.start("verify", ["log", "--follow"]) for each in (one, other)]
    assert len(names) == MOST_AT_A_TIME
    with pytest.raises(Exception, match="jobs run already"):
        other.start("verify", ["log"])
    other.cancel(names[0])
    eventually(lambda: one.get(names[0]).state == "cancelled", lambda: str(one.get(names[0])))
    names.append(other.start("verify", ["log", "--follow"]))
    for name in names[1:]:
        one.cancel(name)
    eventually(lambda: {other.get(each).state for each in names} == {"cancelled"}, "they end")


def test_a_job_outlives_the_process_that_began_it(two: tuple[Mounted, Mounted], tmp_path: Path) -> None:
    """As gunicorn ends its workers now and then."""
    script = f"""
import os, pathlib, time
from actionbus.adapters.http.jobs import Jobs
print(Jobs(pathlib.Path({str(tmp_path)!r}), dict(os.environ)).start("verify", ["log", "--follow"]), flush=True)
time.sleep(1000)
"""
    env = {
        **os.environ,
        "ACTIONBUS_APP": APP,
        "PYTHONPATH": str(ROOT),
        "ACTIONBUS_DATABASE_URL": str(two[0].bus.engine.url),
    }
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    assert worker.stdout is not None
    name = worker.stdout.readline().strip()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    after = Jobs(tmp_path, {})
    eventually(lambda: "import_prices" in after.get(name).printed, lambda: str(after.get(name)))
    assert after.get(name).state == "running"
    after.cancel(name)
    eventually(lambda: after.get(name).state == "cancelled", lambda: str(after.get(name)))
    assert after.get(name).code is not None, "how it ended is on record"


@pytest.mark.parametrize("who", ["clerk", "auditor", "doctor", "guest"])
def test_who_has_not_the_permission_sees_and_begins_none(two: tuple[Mounted, Mounted], who: str) -> None:
    one, _ = two
    name = one.begin(kind="bisect", table="reservations", key="r-dora", column="price", value="1")
    one.ended(name)
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{name}"), ("DELETE", f"/{name}")):
        one.ask(method, f"/history/jobs{path}", who, 403, **({"json": {"kind": "verify"}} if method == "POST" else {}))
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("GET", f"/{name}"),
        ("GET", f"/{name}/report"),
        ("POST", f"/{name}/cancel"),
    ):
        one.ask(
            method, f"/inspector/jobs{path}", who, 403, **({"data": {"kind": "verify"}} if method == "POST" else {})
        )
    if who != "guest":
        assert "/inspector/jobs" not in one.ask("GET", "/inspector/", who)
    assert "/inspector/jobs" in one.ask("GET", "/inspector/")


def test_what_an_action_does_the_checkpoint_is_asked_about_for_the_caller(two: tuple[Mounted, Mounted]) -> None:
    one, other = two
    [doubled] = [each for each in one.bus.journal.read(action="reprice", kind="outcome") if each.position == 23]
    refused = other.ended(one.begin("steward", kind="revert", id=str(doubled.action_id), actor="manager"))
    assert (refused["state"], refused["code"]) == ("refused", 1)
    [denied] = one.bus.journal.read(action="revert_action", kind="outcome")
    assert (denied.status, denied.actor) == ("denied", "steward"), "whoever he says he is"
    done = other.ended(one.begin("manager", kind="revert", id=str(doubled.action_id)))
    assert done["answer"][0]["status"] == "succeeded"
    seen = other.ended(one.begin("steward", kind="preview", action="reprice", arguments='{"id": "r-fay", "price": 1}'))
    assert seen["answer"][0]["status"] == "succeeded"
    [waiting] = one.bus.runs.all(10)
    kept = other.ended(one.begin("steward", kind="cancel-run", id=str(waiting.action_id)))
    assert kept["state"] == "refused"
    assert one.bus.runs.all(10) != []


def test_documents_of_a_projection_are_told_as_they_were(two: tuple[Mounted, Mounted]) -> None:
    one, other = two
    found = other.ended(one.begin("steward", kind="documents", projection="stays", at="8"))
    assert [each["key"] for each in found["answer"]] == ["r-anna", "r-ben", "r-cleo", "r-dora"]
    assert found["answer"][0]["document"] == {"guest": "Anna"}
    page = other.ask("GET", f"/inspector/jobs/{found['id']}")
    assert "r-dora" in page
    assert 'name="projection" value="stays"' in other.ask("GET", "/inspector/projections")


def test_a_query_of_ones_own_is_for_operators(two: tuple[Mounted, Mounted]) -> None:
    for sql in ("SELECT 1 FROM reservations", "SELECT 1; DROP TABLE reservations"):
        two[0].ask("POST", "/history/jobs", "manager", 403, json={"kind": "bisect", "sql": sql})


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        "x",
        {"kind": "none"},
        {"kind": "bisect"},
        {"kind": 1},
        {"kind": "verify", "more": "x"},
        {"kind": "revert", "id": "\0"},
        {"kind": "verify", "from": "\ud800"},
        {"kind": "verify", "from": "x" * 200_000},
        {"kind": "preview", "action": "--help"},
        {"kind": "what-if"},
    ],
)
def test_what_makes_no_sense_begins_nothing(two: tuple[Mounted, Mounted], given: Any) -> None:
    one, _ = two
    before = one.ask("GET", "/history/jobs")
    one.ask("POST", "/history/jobs", expected=400, json=given)
    assert one.ask("GET", "/history/jobs") == before


def test_a_form_of_another_site_begins_nothing(two: tuple[Mounted, Mounted]) -> None:
    one, _ = two
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/history/jobs", "/inspector/jobs"):
            answer = one._client.post(path, headers={"X-Actor": "manager", **headers}, data={"kind": "verify"})
            assert answer.status_code in (403, 415)
    one.ask("POST", "/history/jobs", expected=415, data='{"kind": "verify"}')


def test_no_other_jobs_than_those_of_the_folder_are_there(two: tuple[Mounted, Mounted]) -> None:
    for name in ("..", "x", "20260101-000000-00000000", "%2e%2e%2f%2e%2e%2fetc", "place-0"):
        two[0].ask("GET", f"/history/jobs/{name}", expected=404)
        two[0].ask("DELETE", f"/history/jobs/{name}", expected=404)


def test_the_application_is_found_where_it_was_imported(two: tuple[Mounted, Mounted], tmp_path: Path) -> None:
    module, _, attribute = str(path_of(inn)).partition(":")
    assert getattr(sys.modules[module], attribute) is inn
    nowhere = Application("nowhere", actions=[])
    assert path_of(nowhere) is None
    with Bus(nowhere, f"sqlite:///{tmp_path / 'x.db'}") as bus:
        assert jobs_of(bus, tmp_path) is None
    with Bus(inn, "sqlite://") as bus:
        assert jobs_of(bus, tmp_path) is None, "no other process has a database in memory"


def test_an_application_that_keeps_none_has_none(two: tuple[Mounted, Mounted]) -> None:
    app = Flask("front")
    app.config.update(ACTIONBUS_ELASTICSEARCH_URL="embedded")
    ActionBus(app, bus=two[0].bus, authenticate=lambda request: request.headers.get("X-Actor"))
    assert app.test_client().get("/history/jobs", headers={"X-Actor": "manager"}).status_code == 404
