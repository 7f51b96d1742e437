"""Values are hostile: whoever may store one must not make a page run, load, redraw or hide anything by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlalchemy import text

from actionbus import Bus
from actionbus.adapters.inspector.asking import address
from tests.adapters.inspector.conftest import Inspected, Watched
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.looking import CORPUS
from tests.conftest import TORTURE

PATHS = (
    "/?sel=2",
    "/?part=rows",
    "/actions/2",
    "/actions/2?part=panel",
    "/causes/2",
    "/tables",
    "/table?table=reservations",
    "/diff?a=0",
    "/about",
    "/queue",
    "/projections",
)

WIDER = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter(each => each.getBoundingClientRect().right > innerWidth && !each.parentElement.closest('.scroll, nav'))
    .map(each => each.outerHTML.slice(0, 200))"""
"""What makes a page wider than the window."""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """An inn in whose every value the corpus stands: arguments, actors, contexts, names, rows, errors, bypasses."""
    folder: Path = tmp_path_factory.mktemp("attacked")
    with Bus(inn, f"sqlite:///{folder / 'inn.db'}") as bus:
        bus.create()
        for number, each in enumerate(CORPUS):
            stored = each.replace("\ud800\udfff", "")
            name = stored[:200] if stored.isprintable() else "somebody"  # no other names an actor
            runner = bus.runner(name, correlation_id=name, context={stored[:99]: stored[:9_000]})
            runner.execute("reserve", {"id": stored[:500], "guest": stored, "room": f"r{number}", "note": stored})
            for arguments in ({"id": stored[:500], "guest": stored}, {each: each}, {"id": each, "nights": each}):
                with pytest.raises(Exception, match=r"(?s).*"):
                    runner.execute("reserve", arguments)
            with pytest.raises(Exception, match=r"(?s).*"):
                runner.execute(stored[:100], {})
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE reservations SET guest = guest || :more"), {"more": CORPUS[1]})
        bus.execute("reserve", {"id": "z", "guest": "z"}, actor="z")
        found = Inspected(bus)
        yield found
        found.close()


def test_nothing_that_is_stored_runs(browser: Browser, attacked: Inspected) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 700})
    page = context.new_page()
    watched = Watched(page, attacked.address)
    loaded: list[str] = []
    page.on("request", lambda asked: loaded.append(asked.url))
    page.goto(f"{attacked.address}/enter?token={attacked.door.token}")
    keys = [each.replace("\ud800\udfff", "")[:500] for each in CORPUS]
    rows = [address("/row", [("table", "reservations"), ("key", each)]) for each in keys if "," not in each]
    origins = [f"{each.replace('/row', '/origin', 1)}&column=guest" for each in rows]
    every = [each.position for each in attacked.bus.journal.read() if each.kind != "submitted"]
    asked = [address("/", [("actor", each), ("exclude_action", each), ("correlation", each)]) for each in keys]
    gone = [address("/go", [("to", each)]) for each in keys]
    refused = [
        address(path, [(name, each)])
        for each in keys
        for path, name in (("/", "cursor"), ("/diff", "a"), ("/table", "table"))
    ]
    others = [*rows, *origins, *asked, *gone, *refused, *(f"/actions/{each}" for each in every)]
    for path in [*PATHS, *others[:: 1 if TORTURE else 5]]:
        answer = page.goto(attacked.address + path)
        assert answer is not None
        assert answer.status in (200, 400, 404), path
        told = page.evaluate("""() => ({
            hit: typeof hit, foreign: document.querySelectorAll('main :is(script, style, iframe, img, object, base, meta, link)').length,
            handlers: [...document.querySelectorAll('*')].filter(each => [...each.attributes].some(
                one => one.name.startsWith('on') || one.name === 'style')).length,
            links: [...document.querySelectorAll('a[href]')].filter(each => new URL(each.getAttribute('href'), location.href).origin !== location.origin).length,
            turned: /[\\u202a-\\u202e\\u2066-\\u2069\\u200b\\u2028\\ufeff\\u0007\\u001b\\u009b]/.test(document.body.innerText),
        })""")
        assert told == {"hit": "undefined", "foreign": 0, "handlers": 0, "links": 0, "turned": False}, path
        if "part=" not in path:  # which is no page
            assert page.evaluate(WIDER) == [], path
    assert {each for each in loaded if not each.startswith(attacked.address)} == set()
    assert watched.wrong == []
    context.close()


def test_the_policy_is_on_every_answer(attacked: Inspected, browser: Browser) -> None:
    context = browser.new_context()
    for path in ("/", "/nothing", "/static/inspector.js", "/static/../values.py", "/enter?token=x"):
        answer = context.request.get(attacked.address + path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
    context.close()
