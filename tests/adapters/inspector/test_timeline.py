"""The timeline in a browser: read, narrowed, walked by keyboard, followed live, with and without a script."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from playwright.sync_api import Browser, Route, expect

from actionbus import Bus
from tests.adapters.inspector.conftest import Inspected, Look, Watched
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.looking import ROWS, positions
from tests.waiting import eventually


def test_the_newest_come_first_and_a_filter_is_in_the_address(look: Look) -> None:
    page = look("/")
    found = positions(page)
    assert found == sorted(found, reverse=True)
    assert len(found) == 15
    page.get_by_label("actor").fill("clerk")
    page.get_by_label("status").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/?actor=clerk&status=failed")
    assert len(positions(page)) == 1
    page.get_by_role("link", name="actor clerk").click()
    page.wait_for_url("**/?status=failed")
    page.go_back()
    page.wait_for_url("**/?actor=clerk&status=failed")
    assert len(positions(page)) == 1


def test_what_is_excluded_is_hidden_and_an_empty_list_names_the_filter(look: Look) -> None:
    page = look("/?exclude_actor=clerk&exclude_status=denied")
    assert set(page.locator(f"{ROWS} .who").all_inner_texts()) == {"channel-import", "nobody"}
    page = look("/?actor=nobody-of-that-name&exclude_action=reserve")
    told = page.locator(".list > .empty").inner_text()
    assert "actor nobody-of-that-name" in told
    assert "not action reserve" in told


def test_menus_and_the_strip_narrow_what_is_shown(look: Look) -> None:
    page = look("/")
    page.locator("details.menu", has_text="actor").locator("summary").click()
    page.get_by_role("link", name="not clerk").click()
    page.wait_for_url("**/?exclude_actor=clerk")
    assert "clerk" not in page.locator(f"{ROWS} .who").all_inner_texts()
    bar = page.locator("#strip a[aria-label*='without success']").last
    page.goto(page.url.partition("?")[0].rstrip("/") + bar.get_attribute("href"))
    assert "since=" in page.url
    assert "until=" in page.url
    assert "exclude_actor=clerk" in page.url


def test_a_drag_over_the_strip_chooses_a_time(look: Look) -> None:
    page = look("/?action=reserve")
    box = page.locator("#strip").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 20)
    page.mouse.up()
    page.wait_for_url("**since=*until=*")
    assert "action=reserve" in page.url


def test_pages_lead_back_to_where_they_came_from(look: Look) -> None:
    page = look("/?limit=4")
    first = positions(page)
    page.keyboard.press("[")
    page.wait_for_url("**cursor=o*")
    older = positions(page)
    assert max(older) < min(first)
    assert len(older) == 4
    page.go_back()
    assert positions(page) == first


def test_keys_move_open_and_go_up(look: Look, watched: Watched) -> None:
    page = look("/")
    all_of_them = positions(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.wait_for_url(f"**sel={all_of_them[1]}")
    expect(page.locator("#panel h2").first).to_contain_text("past the gateway")
    page.keyboard.press("k")
    page.wait_for_url(f"**sel={all_of_them[0]}")
    page.reload()
    expect(page.locator("#panel h2").first).to_contain_text("reserve")
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    assert watched.here() == "/"
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")
    page.keyboard.press("[")
    page.wait_for_url(f"**/actions/{all_of_them[1]}")
    page.keyboard.press("]")
    page.wait_for_url(f"**/actions/{all_of_them[0]}")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("reservations:r-dora")
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?table=reservations&key=r-dora")


def test_what_was_closed_is_not_opened_by_a_late_answer(look: Look, watched: Watched) -> None:
    page = look("/")
    held: list[Route] = []
    page.route("**/actions/*", lambda route: held.append(route))
    with page.expect_request("**part=panel*"):
        page.keyboard.press("j")
    page.keyboard.press("Escape")
    (late,) = held
    with page.expect_response(lambda each: each.request == late.request) as answered:
        late.continue_()
    answered.value.finished()
    page.evaluate("fetch(location.href).then(each => each.text())")  # a later answer has come by now
    page.unroute("**/actions/*")
    expect(page.locator("#panel")).to_be_hidden()
    assert watched.here() == "/"
    page.keyboard.press("j")
    expect(page.locator("#panel h2").first).to_be_visible()


def test_two_marked_records_show_what_changed_between(look: Look) -> None:
    page = look("/?action=reprice")
    page.keyboard.press("j")
    page.keyboard.press("x")
    for _ in range(2):
        page.keyboard.press("j")
    page.keyboard.press("x")
    page.wait_for_url("**/diff?a=*&b=*")
    assert "r-dora" in page.locator("main").inner_text()


def test_the_live_tail_shows_what_is_done_and_pauses(look: Look, inspected: Inspected) -> None:
    page = look("/?action=reprice")
    before = len(positions(page))
    inspected.bus.execute("reprice", {"id": "r-fay", "price": "541"}, actor="clerk")
    expect(page.locator(ROWS)).to_have_count(before + 1)
    page.keyboard.press("p")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "false")
    inspected.bus.execute("reprice", {"id": "r-fay", "price": "540"}, actor="clerk")
    asked = page.evaluate("performance.getEntriesByType('resource').length")
    page.keyboard.press("p")
    expect(page.locator(ROWS)).to_have_count(before + 2)
    eventually(lambda: page.evaluate("performance.getEntriesByType('resource').length") > asked, "it asks again")
    assert positions(page) == sorted(positions(page), reverse=True)


def test_everything_reads_without_a_script(browser: Browser, inspected: Inspected, visitor) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies(visitor.cookies())
    page = context.new_page()
    page.goto(f"{inspected.address}/?limit=5")
    page.get_by_role("link", name="load older").click()
    page.wait_for_url("**cursor=*")
    assert len(positions(page)) == 5
    page.locator(f"{ROWS} a").first.click()
    page.wait_for_url("**/actions/*")
    assert page.locator("h1").inner_text()
    assert not page.get_by_role("button", name="copy as").first.is_visible()
    context.close()


def test_a_busy_tail_keeps_so_many_rows_and_no_more(browser: Browser, tmp_path: Path) -> None:
    with Bus(inn, f"sqlite:///{tmp_path / 'inn.db'}") as bus:
        bus.create()
        bus.execute("reserve", {"id": "first", "guest": "Anna"}, actor="clerk")
        with closing(Inspected(bus)) as served, browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{served.address}/enter?token={served.door.token}")
            for begin in range(0, 450, 150):
                reservations = [("reserve", {"id": f"g{number}", "guest": "G"}) for number in range(begin, begin + 150)]
                last = bus.runner("clerk").execute_many(reservations)[-1]
                newest = page.locator(ROWS).first
                expect(newest).to_have_attribute("data-position", str(last.position))
            expect(page.locator(ROWS)).to_have_count(400)
            found = positions(page)
            assert found == sorted(found, reverse=True)
