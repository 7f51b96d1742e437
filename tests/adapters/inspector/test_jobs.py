"""Jobs, begun in a browser: each a command in a process of its own, with progress, cancel, an address, a kept report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from actionbus.adapters.http.job_kinds import FIELDS, KINDS, Asker
from actionbus.adapters.http.jobs import MOST_AT_A_TIME, Jobs
from actionbus.adapters.http.refusals import Busy, Malformed
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from tests.adapters.inspector.conftest import Inspected, entered, with_jobs
from tests.adapters.inspector.looking import ended, tab_to, violations
from tests.waiting import eventually


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """The inn, and a folder for jobs."""
    with with_jobs(tmp_path_factory.mktemp("working")) as found:
        yield found


@pytest.fixture(scope="module")
def page(browser: Browser, working: Inspected) -> Iterator[Page]:
    with entered(browser, working) as page:
        yield page


def test_a_bisect_finds_the_first_action_and_leads_to_it(page: Page, working: Inspected) -> None:
    page.goto(f"{working.address}/jobs")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    page.get_by_label("query").fill("SELECT EXISTS (SELECT 1 FROM reservations WHERE id = 'r-dora' AND price > 700)")
    page.get_by_role("button", name="Bisect").click()
    told = ended(page)
    assert "done" in told
    assert "actionbus history bisect" in told
    assert "position 23" in told
    page.get_by_role("link", name="position 23").click()
    expect(page.locator("h1")).to_contain_text("reprice")


def test_what_was_is_verified_and_the_report_is_kept(page: Page, working: Inspected) -> None:
    page.goto(f"{working.address}/actions/24")
    page.get_by_role("link", name="verify, skip, preview or revert it").click()
    page.get_by_role("button", name="Verify").click()
    assert "1 same" in ended(page)
    kept = page.url
    page.get_by_role("link", name="the report").click()
    page.wait_for_url("**/report*")
    assert page.locator("body").inner_text().startswith("$ actionbus replay verify --json --from=")
    again = Jobs(working.jobs._folder, {})
    assert again.get(kept.rpartition("/")[2]).state == "done", "whichever process looks"


def test_a_preview_changes_nothing_and_a_revert_does(page: Page, working: Inspected) -> None:
    before = working.bus.journal.settled()
    page.goto(f"{working.address}/jobs")
    form = page.locator("form", has=page.get_by_role("button", name="Preview"))
    form.get_by_label("action").fill("reprice")
    form.get_by_label("by").fill("clerk")
    form.get_by_label("arguments").fill('{"id": "r-fay", "price": "1"}')
    form.get_by_role("button").click()
    assert "price" in ended(page)
    assert working.bus.journal.settled() == before
    [doubled] = [each for each in working.bus.journal.read(action="reprice", kind="outcome") if each.position == 23]
    page.goto(f"{working.address}/jobs?id={doubled.action_id}")
    page.get_by_role("button", name="Revert").click()
    assert "succeeded" in ended(page)
    assert working.bus.history.state("reservations").tables["reservations"][3]["price"] == 360


def test_an_operator_decides_about_what_waits_as_an_action_on_record(page: Page, working: Inspected) -> None:
    page.goto(f"{working.address}/queue")
    page.keyboard.press("j")
    expect(page.locator("tr[data-href] th a").first).to_be_focused()
    tab_to(page, "tr[data-href] button:text-is('cancel')")
    page.keyboard.press("Enter")
    assert "is cancelled" in ended(page)
    [decided] = working.bus.journal.read(action="cancel_run", kind="outcome")
    assert decided.status == "succeeded"
    page.goto(f"{working.address}/queue")
    expect(page.locator("main")).to_contain_text("Nothing waits")


def test_documents_are_shown_as_they_were_at_a_position(page: Page, working: Inspected) -> None:
    page.goto(f"{working.address}/projections")
    tab_to(page, "input[name=at]")
    page.keyboard.type("8")
    page.keyboard.press("Enter")
    told = ended(page)
    assert "actionbus history documents --json --at=8 -- stays" in told
    assert [each for each in ("r-anna", "r-dora", "r-emil") if each in told] == ["r-anna", "r-dora"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    for width in (320, 1024):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_one_that_runs_is_running_for_whoever_looks_until_it_is_cancelled(working: Inspected) -> None:
    name = working.jobs.start("verify", ["log", "--follow"])
    other = Jobs(working.jobs._folder, {})
    eventually(lambda: "import_prices" in working.jobs.get(name).printed, lambda: str(working.jobs.get(name)))
    assert other.get(name).state == working.jobs.get(name).state == "running"
    other.cancel(name)
    eventually(lambda: working.jobs.get(name).state == "cancelled", lambda: str(working.jobs.get(name)))
    assert other.get(name).state == "cancelled"
    assert name in [each.id for each in other.all()]


def test_a_command_tells_how_far_it_is_though_it_is_confined(working: Inspected) -> None:
    name = working.jobs.start("verify", ["replay", "verify"])
    eventually(lambda: working.jobs.get(name).state == "done", lambda: str(working.jobs.get(name)))
    told = json.loads((working.jobs._folder / name / "progress").read_text())
    assert told["what"] == "verifying"
    assert 0 <= told["done"] <= told["total"]


def test_so_many_run_at_a_time_and_no_more(working: Inspected) -> None:
    names = [working.jobs.start("verify", ["log", "--follow"]) for _ in range(MOST_AT_A_TIME)]
    with pytest.raises(Busy):
        working.jobs.start("verify", ["log"])
    for name in names:
        working.jobs.cancel(name)
    eventually(lambda: {working.jobs.get(each).state for each in names} == {"cancelled"}, "they end")


def test_nothing_is_begun_for_another_site_or_for_a_stranger(working: Inspected) -> None:
    door = Door(working.bus)
    client = app_behind(door, working.bus, "embedded", working.jobs).test_client()
    form = {"kind": "bisect", "sql": "SELECT 1"}
    before = working.jobs.all()
    assert client.post("/jobs", data=form).status_code == 401
    client.get(f"/enter?token={door.token}")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert client.post("/jobs", data=form, headers=headers).status_code == 403
        assert client.post("/jobs/x/cancel", headers=headers).status_code == 403
    assert client.get("/jobs/..%2f..%2fetc").status_code == 404
    assert client.post("/jobs", data={"kind": "none"}).status_code == 400
    assert working.jobs.all() == before


@pytest.mark.parametrize("value", ["--with=os:system", "-h", "--app=x:y"])
def test_no_value_is_taken_for_an_option(working: Inspected, value: str) -> None:
    given = dict.fromkeys(FIELDS, value)
    for kind, command_of in KINDS.items():
        try:
            words = command_of(Asker(is_operator=True, actor=None), given).words
        except Malformed:
            continue
        ours = words[: words.index("--")] if "--" in words else words
        assert value not in ours, kind
        assert [
            each
            for each in ours
            if each.startswith("-")
            and not re.match(r"--(good|bad|from|to|skip|edit|actor|preview|arguments|json|action|at)\b", each)
        ] == []


def test_one_whose_server_died_is_lost_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "20260101-000000-00000000"
    home.mkdir()
    told = {"kind": "verify", "words": [], "actor": None, "began": "2026-01-01T00:00:00+00:00"}
    (home / "job.json").write_text(json.dumps(told))
    for name in ("lock", "printed"):
        (home / name).touch()
    assert Jobs(tmp_path, dict(os.environ)).get(home.name).state == "lost"
