"""The pictures of docs/inspector.md: each is there, shown, and light; and those of every page can be taken again."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from actionbus.adapters.inspector.pages import ROUTES
from tests.adapters.inspector.screenshots import FOLDER, SHOWN, take
from tests.helpers import ROOT


def test_every_picture_is_taken_and_shown(browser: Browser, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "taken", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    take(browser, folder, scratch)
    taken = {each.name: each.stat().st_size for each in folder.iterdir()}
    kept = {each.name: each.stat().st_size for each in FOLDER.iterdir()}
    assert set(kept) == set(taken)
    assert min(taken.values()) > 5_000, "none is blank"
    assert sum(kept.values()) < 2_000_000
    text = (ROOT / "docs" / "inspector.md").read_text()
    assert [name for name in kept if f"inspector/{name}" not in text] == []


def test_every_page_has_a_picture() -> None:
    pictured = {path.partition("?")[0].partition("/")[2].partition("/")[0] for path in SHOWN.values()}
    assert {rule.partition("/")[2].partition("/")[0] for rule in ROUTES} - {"go"} <= pictured
