"""The live tail: rows as server-sent events, resumed without a gap, asked for where no place is left; who gets none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from actionbus import Bus
from actionbus.adapters.http.api import Api
from actionbus.adapters.http.waiting import Waits
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from tests.adapters.inspector.conftest import Inspected, Watched, entered
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.looking import ROWS, mounted, positions


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Inspected]:
    """An inn in which somebody is about to do something."""
    with Bus(inn, f"sqlite:///{tmp_path / 'inn.db'}") as bus:
        bus.create()
        bus.execute("reserve", {"id": "first", "guest": "Anna"}, actor="clerk")
        found = Inspected(bus)
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, followed: Inspected) -> Iterator[Page]:
    with entered(browser, followed) as page:
        yield page


def reserve(bus: Bus, name: str, actor: str = "clerk") -> None:
    bus.execute("reserve", {"id": name, "guest": "G<b>\n</b>"}, actor=actor)


def test_rows_come_by_themselves_and_go_on_where_they_were(page: Page, followed: Inspected) -> None:
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url))
    page.goto(f"{followed.address}/?actor=clerk")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#again")).to_be_hidden()
    for number in range(3):
        reserve(followed.bus, f"a{number}")
        reserve(followed.bus, f"b{number}", "somebody-else")
    expect(page.locator(ROWS)).to_have_count(4)
    page.keyboard.press("p")
    reserve(followed.bus, "paused")
    page.keyboard.press("p")
    expect(page.locator(ROWS)).to_have_count(5)
    assert positions(page) == sorted(set(positions(page)), reverse=True)
    assert set(page.locator(f"{ROWS} .who").all_inner_texts()) == {"clerk"}
    assert [each for each in asked if "/tail?actor=clerk&after=" in each]
    assert not [each for each in asked if "part=rows" in each], "nothing is asked for again and again"
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")


def test_where_no_place_is_left_it_asks(browser: Browser, tmp_path: Path) -> None:
    with Bus(inn, f"sqlite:///{tmp_path / 'inn.db'}") as bus:
        bus.create()
        door = Door(bus)
        with closing(Inspected(bus, full(door, bus))) as served, browser.new_context() as context:
            page = context.new_page()
            watched = Watched(page, served.address)
            page.goto(f"{served.address}/enter?token={door.token}")
            reserve(bus, "x")
            expect(page.locator(ROWS)).to_have_count(1)
        assert watched.wrong == []


def test_an_answer_from_before_a_pause_is_not_taken_after_it(browser: Browser, tmp_path: Path) -> None:
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    with Bus(inn, f"sqlite:///{tmp_path / 'inn.db'}") as bus:
        bus.create()
        door = Door(bus)
        with closing(Inspected(bus, full(door, bus))) as served, browser.new_context() as context:
            page = context.new_page()
            page.route("**part=rows*", hold_first)
            with page.expect_request("**part=rows*"):
                page.goto(f"{served.address}/enter?token={door.token}")
            page.keyboard.press("p")
            page.keyboard.press("p")
            reserve(bus, "x")
            expect(page.locator(ROWS)).to_have_count(1)
            (late,) = held
            with page.expect_response(lambda each: each.request == late.request):
                late.continue_()
            reserve(bus, "y")
            expect(page.locator(ROWS).first).to_have_attribute("data-position", str(bus.journal.last()))
            assert positions(page) == sorted(set(positions(page)), reverse=True), "each row once"
            assert len(positions(page)) == 2


def test_a_server_that_is_in_need_is_waited_for(browser: Browser, followed: Inspected) -> None:
    is_away = [True]

    def answer(route: Route) -> None:
        if is_away[0] or "/tail" in route.request.url:
            route.fulfill(status=503, body="")
        else:
            route.continue_()

    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/tail?*", answer)
        page.route("**part=rows*", answer)
        page.goto(f"{followed.address}/enter?token={followed.door.token}")
        expect(page.locator("#live")).to_have_text("waiting")
        reserve(followed.bus, "more")
        is_away[0] = False
        expect(page.locator(ROWS)).to_have_count(2)
        expect(page.locator("#live")).to_have_text("live")


def full(door: Door, bus: Bus) -> Any:
    """An inspector all of whose places are taken."""
    taken: list[Waits] = []
    before = Api.__init__

    def init(self: Api, *args: Any, **options: Any) -> None:
        before(self, *args, **options)
        for _ in range(self.streams.most):
            self.streams.take()
        taken.append(self.streams)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Api, "__init__", init)
        app = app_behind(door, bus, "embedded")
    assert taken
    return app


def test_without_a_script_there_is_a_link_that_reloads(browser: Browser, followed: Inspected) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{followed.address}/enter?token={followed.door.token}")
    page.goto(f"{followed.address}/?actor=clerk")
    reserve(followed.bus, "more")
    page.get_by_role("link", name="reload").press("Enter")
    expect(page.locator(ROWS)).to_have_count(2)
    page.wait_for_url("**/?actor=clerk")
    expect(page.locator("#live")).to_be_hidden()
    context.close()


def test_text_is_looked_for_in_a_window_that_the_page_tells(page: Page, followed: Inspected) -> None:
    reserve(followed.bus, "needle")
    page.goto(followed.address)
    page.get_by_label("text").fill("needle")
    page.get_by_label("text").press("Enter")
    page.wait_for_url("**/?q=needle")
    expect(page.locator(ROWS)).to_have_count(1)
    expect(page.locator("p.foot")).to_contain_text("looked for the words in the records from 1 to 4")
    page.goto(f"{followed.address}/?q=hay")
    expect(page.locator(".list > .empty")).to_contain_text("No record meets all of: text hay")


@pytest.mark.early
def test_nobody_follows_what_he_may_not_read_and_values_are_masked(followed: Inspected) -> None:
    client = mounted(followed.bus, ACTIONBUS_INSPECTOR=True)
    for who, status in (("guest", 403), ("thief", 403)):
        assert client.get("/inspector/tail", headers={"X-Actor": who}).status_code == status
    assert client.get("/inspector/tail").status_code == 401
    for who, sees in (("auditor", False), ("clerk", True)):
        answer = client.get("/inspector/tail?after=0", headers={"X-Actor": who}, buffered=False)
        told = b"".join(each for each, _ in zip(answer.response, range(2), strict=False)).decode()
        answer.close()
        assert answer.mimetype == "text/event-stream"
        assert "data: <tr data-position" in told
        assert ("Anna" in told) == sees
    for wrong in ("after=x", "after=99999999", "until=2026-01-01"):
        answer = client.get(f"/inspector/tail?{wrong}", headers={"X-Actor": "clerk"}, buffered=False)
        assert answer.status_code == (200 if wrong.startswith("until") else 400), (
            "`until` is not of a tail, and left out"
        )
        answer.close()
