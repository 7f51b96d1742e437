"""What jobs found, in a browser: what was recorded and what is now, side by side, with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.adapters.inspector.conftest import Inspected, entered, with_jobs
from tests.adapters.inspector.looking import ended, violations


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """The inn, whose code is a later release's by now."""
    with with_jobs(tmp_path_factory.mktemp("later"), "inn.later:later") as found:
        yield found


@pytest.fixture(scope="module")
def page(browser: Browser, later: Inspected) -> Iterator[Page]:
    with entered(browser, later) as page:
        yield page


def kept_out(page: Page) -> list[str]:
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += violations(page)
    for width in (320, 1024, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"wider than {width}")
    return found


def test_a_verify_shows_what_was_recorded_and_what_is_now_side_by_side(page: Page, later: Inspected) -> None:
    page.goto(f"{later.address}/jobs")
    form = page.locator("form", has=page.get_by_role("button", name="Verify"))
    form.get_by_label("only the action").fill("reprice")
    form.get_by_label("only the action").press("Enter")
    told = ended(page)
    assert "divergent" in told
    fields = page.locator("table.lines tbody").last.locator("tr")
    cells = [each.locator("th, td").all_inner_texts() for each in fields.all()[1:]]
    assert ["result.rounded", "(absent)", "true"] in cells
    assert kept_out(page) == []
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")
    expect(page.locator("h1")).to_contain_text("reprice")
    page.go_back()
    assert "--format=junit" in page.locator(".copies").inner_text()
    page.get_by_role("link", name="the report").click()
    page.wait_for_url("**/report*")
    text = page.locator("body").inner_text()
    assert "divergent: reprice at" in text
    assert "result.rounded: recorded (absent), now true" in text
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="as JUnit XML").press("Enter")
    suite = ElementTree.parse(download.value.path()).getroot()
    cases = [each for each in suite.iter("testcase") if each.get("classname") == "reprice"]
    assert suite.get("failures") == str(len(suite.findall("testcase/failure"))) != "0"
    assert int(suite.get("tests") or 0) >= len(cases)
    assert all((each[0].text or "").rpartition("\n")[2].startswith(f"{later.address}/actions/") for each in cases)


def test_another_line_of_history_is_shown_beside_the_recorded_one_with_its_rows(page: Page, later: Inspected) -> None:
    [imported] = later.bus.journal.read(action="reprice", kind="outcome", actor="clerk")
    page.goto(f"{later.address}/jobs?id={imported.action_id}")
    page.get_by_label("give others another argument").fill(f'{imported.action_id}:price="200"')
    page.get_by_label("leave these actions out").fill("")
    inserted = '{"action": "reprice", "arguments": {"id": "r-anna", "price": "300"}, "actor": "clerk", "after": 27}'
    page.get_by_label("run others as well").fill(inserted)
    page.get_by_role("button", name="Run the other line").press("Enter")
    told = ended(page)
    assert "The lines part at" in told
    assert "was not there" in told, "the inserted one"
    rows = page.locator(".change.update")
    assert rows.count() == 2
    ben = rows.filter(has_text="r-ben")
    assert ben.locator("tr.changed td").all_inner_texts() == ["150", "200"]
    assert kept_out(page) == []
    ben.locator("h3 a").press("Enter")
    page.wait_for_url("**/row?table=reservations&key=r-ben")


def test_a_row_is_asked_since_when_it_has_a_value(page: Page, later: Inspected) -> None:
    page.goto(f"{later.address}/jobs?table=reservations&key=r-dora&column=price&value=720")
    page.get_by_role("button", name="Find").press("Enter")
    assert "position 23" in ended(page)
    assert kept_out(page) == []
