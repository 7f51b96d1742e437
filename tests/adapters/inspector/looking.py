"""What tests of the inspector look at, and with: its pages, whom they keep out (axe), rows, a job that ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
from flask import Flask
from playwright.sync_api import Page, expect

from actionbus import Bus
from actionbus.flask import ActionBus
from tests.waiting import PATIENCE_S

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
CORPUS = (
    "<script>hit=1</script>",
    "<img src=x onerror=hit=1>",
    '"><svg onload=hit=1>',
    "' onmouseover='hit=1",
    "</td></tr></table><style>*{display:none}</style><iframe src=/about>",
    "javascript:hit=1//<a href=javascript:hit=1>x</a>",
    "</title><base href=//evil.invalid/><meta http-equiv=refresh content='0;url=//evil.invalid'>",
    "{{ 7*7 }}{% raw %}${7*7}<%= 7*7 %>",
    "\u202eexe.gnp\u202c\u2066hidden\u2069\u200b\u2028\ufeff",
    "\x1b[2J\x07\x9b31m\x7f\ud800\udfff",
    "-->]]><!--<!DOCTYPE html>",
    "x" * 30_000 + "<b>end</b>",
    "e\u0301" * 5 + "Z" + "\u0335" * 60,
)
"""Hostile values."""
PAGES = {
    "/": "/?sel=24",
    "/go": "/go?to=24",
    "/actions/<which>": "/actions/24",
    "/causes/<which>": "/causes/23",
    "/row": "/row?table=reservations&key=r-dora",
    "/origin": "/origin?table=reservations&key=r-dora&column=price",
    "/tables": "/tables",
    "/table": "/table?table=reservations&at=20",
    "/diff": "/diff?a=12&b=24",
    "/projections": "/projections",
    "/queue": "/queue",
    "/about": "/about",
}
OTHERS = ("/actions/18", "/actions/28", "/?status=interrupted", "/diff", "/row?table=reservations&key=none")
"""A failure, a bypass, and what is empty."""


def violations(page: Page) -> list[str]:
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in found for node in each["nodes"]]


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until it has the focus."""
    wanted = page.locator(selector).first
    for _ in range(80):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => document.activeElement === each"):
            return
    raise AssertionError(f"no Tab leads to {selector}")


ROWS = "#records tbody tr"


def positions(page) -> list[int]:
    return [int(each) for each in page.locator(f"{ROWS} td:first-child").all_inner_texts()]


PATIENCE_MS = PATIENCE_S * 1000


def ended(page: Page) -> str:
    page.wait_for_url("**/jobs/*-*")
    expect(page.locator("#job")).not_to_have_attribute("data-state", "running", timeout=PATIENCE_MS)
    return page.locator("main").inner_text()


def who(request: Any) -> str | None:
    found: str | None = request.headers.get("X-Actor")
    return found


def mounted(bus: Bus, **config: Any) -> Any:
    app = Flask("front")
    app.config.update(config, ACTIONBUS_ELASTICSEARCH_URL="embedded")
    ActionBus(app, bus=bus, authenticate=who, inspector=True)
    return app.test_client()
