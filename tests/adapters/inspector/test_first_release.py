"""What the first release must have, walked by keyboard in a browser, where no other test of a page does it already."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.adapters.inspector.conftest import Look, Watched
from tests.adapters.inspector.looking import ROWS, positions, tab_to


def test_filters_are_given_by_keyboard(look: Look, watched: Watched) -> None:
    page = look("/")
    tab_to(page, "input[name=action]")
    page.keyboard.type("reserve")
    tab_to(page, "input[name=actor]")
    page.keyboard.type("clerk")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?action=reserve&actor=clerk")
    tab_to(page, "details.menu summary")
    page.keyboard.press("Enter")
    tab_to(page, "details.menu[open] a.not")
    page.keyboard.press("Enter")
    page.wait_for_url("**exclude_action=reserve*")
    tab_to(page, "a.chip")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url.count("=") == 1)
    assert watched.here() in ("/?actor=clerk", "/?exclude_action=reserve")


def test_several_values_and_what_is_excluded_stand_in_the_address(look: Look) -> None:
    page = look("/?actor=clerk&actor=thief&status=denied&status=rejected&exclude_action=reprice&release=2026.11")
    assert sorted(page.locator(f"{ROWS} .status").all_inner_texts()) == ["denied", "rejected"]
    assert page.locator("a.chip").count() == 6
    page = look("/?correlation=import-7")
    assert set(page.locator(f"{ROWS} .who").all_inner_texts()) == {"channel-import"}


def test_what_changed_rows_is_shown_alone(look: Look) -> None:
    everything = positions(look("/"))
    page = look("/")
    tab_to(page, "input[name=touching]")
    page.keyboard.type("*")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?touching=*")
    changed = positions(page)
    assert set(changed) < set(everything)
    assert set(page.locator(f"{ROWS} .status").all_inner_texts()) == {"succeeded", "bypass"}
    assert "import_prices" not in page.locator(f"{ROWS} .name").all_inner_texts(), "it changed none itself"
    page = look("/?touching=reservations:r-dora")
    assert positions(page) == [23, 8]


def test_a_time_is_chosen_on_the_strip_by_keyboard(look: Look, watched: Watched) -> None:
    page = look("/?action=reserve")
    tab_to(page, "#strip")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    assert page.locator("#strip .brushed").count() > 1
    assert " to " in page.locator("#said").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**since=*until=*")
    assert "action=reserve" in watched.here()
    assert positions(page)
    page.go_back()
    assert watched.here() == "/?action=reserve"


def test_a_date_is_jumped_to(look: Look) -> None:
    page = look("/")
    page.keyboard.press("/")
    page.keyboard.type("2001-01-01")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?until=2001-01-01*")
    assert "No record meets all of: until" in page.locator(".list > .empty").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("2999-01-01T00:00")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?until=2999*")
    assert len(positions(page)) >= 15


def test_what_is_no_name_or_place_is_looked_for_as_words(look: Look) -> None:
    """As a stranger does, who knows nothing but what the customer is called."""
    for typed, leads_to in (
        ("reprice", "**/?action=reprice"),
        ("Dora 720", "**/?q=Dora+720"),
        ("reservations", "**/table?*"),
    ):
        page = look("/")
        page.keyboard.press("/")
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        page.wait_for_url(leads_to)
    assert positions(look("/?q=Dora+720")) == [23]


def test_causes_and_the_request_are_walked_by_keyboard(look: Look) -> None:
    page = look("/actions/23")
    tab_to(page, "a[href*='/causes/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/causes/*")
    tree = page.locator(".tree")
    expect(tree).to_contain_text("import_prices")
    expect(tree).to_contain_text("reprice")
    tab_to(page, ".tree a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")
    expect(page.locator("h1")).to_contain_text("import_prices")


def test_an_action_is_taken_along_by_keyboard(look: Look, watched: Watched) -> None:
    page = look("/actions/8")
    watched.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab_to(page, "button.copy[aria-label='copy as curl']")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="copy as curl")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl -H 'Authorization: Bearer TOKEN'")
    names = page.locator(".copies dt").all_inner_texts()
    assert set(names) >= {"command line", "curl", "pytest", "SQL", "debugger"}


def test_a_value_leads_to_where_it_came_from(look: Look) -> None:
    page = look("/table?table=reservations&at=24")
    row = page.locator("tr", has_text="r-dora")
    row.locator("a.cell", has_text="720").click()
    page.wait_for_url("**/origin?table=reservations&key=r-dora&column=price&at=24")
    expect(page.locator(".chain")).to_contain_text("reprice")
    tab_to(page, ".chain a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")


def test_values_of_rows_arguments_and_results_lead_to_their_origin(look: Look, watched: Watched) -> None:
    page = look("/actions/23")
    after = page.locator(".change.update tr.changed", has_text="price").locator("td").nth(1)
    before = page.locator(".change.update tr.changed", has_text="price").locator("td").first
    assert (before.inner_text(), after.inner_text()) == ("360", "720")
    after.locator("a").press("Enter")
    page.wait_for_url("**/origin?table=reservations&key=r-dora&column=price&at=23")
    expect(page.locator(".chain")).to_contain_text("changed by reprice")
    page.go_back()
    before.locator("a").press("Enter")
    page.wait_for_url("**/origin?table=reservations&key=r-dora&column=price&at=22")
    expect(page.locator(".chain")).to_contain_text("inserted by reserve")
    page.go_back()
    tab_to(page, "a.cell[href*='argument=price']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/origin?action=*&argument=price")
    chain = page.locator(".chain")
    expect(chain.locator("li").first).to_contain_text("given to reprice")
    expect(chain.locator("li").last).to_contain_text("which was run by import_prices")
    expect(chain.locator("li").last).to_contain_text('"factor": "2"')
    page.keyboard.press("Escape")
    page.wait_for_url("**/actions/*")
    page.locator("a.cell[href*='result=id']").press("Enter")
    expect(page.locator(".chain")).to_contain_text("The same value stands in argument id")
    page = look("/actions/8")
    page.locator("a.cell[href*='argument=room']").press("Enter")
    expect(page.locator("main")).to_contain_text("it is the argument's default")
    page = look("/diff?a=20&b=24")
    dora = page.locator(".change", has_text="r-dora")
    assert [each.get_attribute("href").rpartition("at=")[2] for each in dora.locator("tr.changed a.cell").all()] == [
        "20",
        "24",
    ]
    page = look("/row?table=reservations&key=r-dora")
    assert page.locator(".step .change.update a.cell[href*='column=price&at=23']").count() == 1


def test_list_slider_and_rows_of_a_table_move_together(look: Look, watched: Watched) -> None:
    page = look("/table?table=reservations&at=24")
    dora = page.locator("table.state tr", has_text="r-dora")
    expect(dora).to_contain_text("720")
    tab_to(page, "#slide")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    page.wait_for_url("**&at=22")
    expect(dora).to_contain_text("360")
    expect(page.locator(".near a[aria-current]")).to_have_text("21 reprice")
    expect(page.locator("#steps b")).to_have_text("22")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**&at=23")
    expect(dora).to_contain_text("720")
    expect(page.locator(".near a[aria-current]")).to_have_text("23 reprice")
    page.keyboard.press("j")
    expect(page.locator("table.state tbody tr a").first).to_be_focused()
    page.reload()
    assert watched.here() == "/table?table=reservations&at=23"
    expect(dora).to_contain_text("720")


def test_two_positions_are_compared_by_keyboard(look: Look) -> None:
    page = look("/diff")
    tab_to(page, "input[name=a]")
    page.keyboard.type("20")
    tab_to(page, "input[name=b]")
    page.keyboard.type("24")
    page.keyboard.press("Enter")
    page.wait_for_url("**/diff?a=20&b=24*")
    assert page.locator(".change.update").count() == 2


def test_going_back_comes_to_the_same_place(look: Look, watched: Watched) -> None:
    page = look("/")
    for _ in range(3):
        page.keyboard.press("j")
    page.wait_for_url("**sel=26")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/*")
    page.go_back()
    assert watched.here() == "/?sel=26"
    expect(page.locator("#panel h2").first).to_contain_text("reprice")
    assert page.locator("tr[aria-selected=true]").get_attribute("data-position") == "26"
    expect(page.locator("tr[aria-selected=true] a").first).to_be_focused()
    page = look("/table?table=reservations")
    for _ in range(3):
        page.keyboard.press("j")
    third = page.locator("table.state tbody tr").nth(2).locator("a").first
    expect(third).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/row?*")
    page.go_back()
    expect(third).to_be_focused()


def test_what_cannot_be_read_stands_in_the_place_of_what_was(look: Look) -> None:
    """As when a session is over: nothing of before is taken for what was asked for now."""
    page = look("/?sel=26")
    panel = page.locator("#panel")
    expect(panel.locator("h2").first).to_contain_text("reprice")
    page.route("**/*part=panel*", lambda route: route.fulfill(status=401, body="away"))
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(panel).to_contain_text("the server answers 401")
    expect(panel).not_to_contain_text("reprice")
    page = look("/table?table=reservations&at=24")
    page.route("**/table?*", lambda route: route.fulfill(status=403, body="away"))
    tab_to(page, "#slide")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#state")).to_have_text("Nothing is told of position 23: the server answers 403.")
