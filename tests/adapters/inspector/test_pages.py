"""Every page in a browser: nobody is kept out by it (axe), it fits narrow and wide, its policy is kept."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from actionbus.adapters.inspector.pages import ROUTES
from tests.adapters.inspector.conftest import Look, Watched
from tests.adapters.inspector.looking import OTHERS, PAGES, violations


def test_every_page_is_looked_at_here() -> None:
    assert set(PAGES) == set(ROUTES)


@pytest.mark.parametrize("path", [*PAGES.values(), *OTHERS])
def test_a_page_keeps_nobody_out_and_fits_every_width(look: Look, path: str) -> None:
    page = look(path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    for width in (320, 1024, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_moves_is_not_the_layout(look: Look) -> None:
    """Nothing jumps while a page is loaded, or its tail comes in."""
    page = look("/")
    script = """() => new Promise(done => new PerformanceObserver(list => done(
        list.getEntries().reduce((sum, each) => sum + each.value, 0))).observe({type: "layout-shift", buffered: true})
        || setTimeout(() => done(0), 300))"""
    assert page.evaluate(script) < 0.02


def test_a_customer_says_her_reservation_costs_double(look: Look, watched: Watched) -> None:
    """Who did it: found from the first page on, by keyboard, without knowing any address."""
    page = look("/")
    page.keyboard.press("/")
    page.keyboard.type("reservations")
    page.keyboard.press("Enter")
    page.wait_for_url("**/table?table=reservations")
    page.get_by_role("link", name="r-dora").press("Enter")
    price = page.locator("table tr", has=page.get_by_role("link", name="price", exact=True))
    expect(price.first).to_contain_text("720")
    expect(price.first).to_contain_text("channel-import")
    price.get_by_role("link", name="price", exact=True).press("Enter")
    chain = page.locator(".chain")
    expect(chain).to_contain_text("The same value stands in argument price")
    expect(chain).to_contain_text("which was run by import_prices")
    expect(chain).to_contain_text('"factor": "2"')
    expect(chain).to_contain_text('"via": "cron"')
    chain.get_by_role("link", name="import_prices").press("Enter")
    expect(page.locator("h1")).to_contain_text("import_prices")
    assert "actionbus replay debug" in page.locator(".copies").inner_text()


def test_operators_see_projections_and_what_waits(look: Look) -> None:
    row = look("/projections").locator("tbody tr")
    assert row.locator("th").inner_text().startswith("stays")
    assert int(row.locator("td").nth(3).inner_text().partition(",")[0]) > 20, "it is behind by all that was done"
    page = look("/queue")
    assert page.locator("tbody tr").first.inner_text().split()[:2] == ["queued", "reprice"]
    page.get_by_role("link", name="reprice").click()
    expect(page.locator("main")).to_contain_text("state")


def test_a_page_that_is_not_there_looks_like_the_others(look: Look) -> None:
    """Nothing jumps: the same pages to go to, and the same margin, as from where there is something."""
    seen = []
    for path in ("/actions/8", "/actions/999"):
        page = look(path)
        box = page.locator("h1").bounding_box()
        assert box is not None
        seen.append((page.locator("header.bar nav a").all_inner_texts(), box["x"]))
    assert seen[0] == seen[1]


def test_every_page_is_to_be_seen_in_a_narrow_window(look: Look, watched: Watched) -> None:
    watched.page.set_viewport_size({"width": 320, "height": 800})
    page = look("/queue")
    for each in page.locator("header.bar nav a").all():
        box = each.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320


def test_an_action_shows_what_was_asked_and_what_became_of_it(look: Look) -> None:
    page = look("/actions/8")
    nights = page.locator("tr", has_text="nights").first
    assert nights.locator("td").all_inner_texts() == ["4", "4"], "a text became a number"
    assert page.locator("tr.default", has_text="room").count() == 1
    assert page.locator(".change.insert tr", has_text="price").inner_text().split() == ["price", "360"]
    assert "rates.of" in page.locator(".calls").inner_text()


def test_a_table_as_it_was_walks_from_change_to_change(look: Look) -> None:
    page = look("/table?table=reservations&at=20")
    assert page.locator("tr", has_text="r-dora").inner_text().split()[4] == "360"
    page.keyboard.press("]")
    page.wait_for_url("**at=21")
    page.keyboard.press("]")
    page.wait_for_url("**at=23")
    assert page.locator("tr", has_text="r-dora").inner_text().split()[4] == "720"
    page.get_by_label("text").fill("cleo")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
