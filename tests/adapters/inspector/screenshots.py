"""Takes the pictures of docs/inspector.md, light and dark: `python -m tests.adapters.inspector.screenshots`.

The tests take them as well, so that it goes on working; but times and ids differ each time, so only this writes them.
With a folder and widths it takes every page at each of these widths, to be looked at.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from actionbus import Bus
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from tests.adapters.inspector.conftest import Inspected
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.chromium import chromium
from tests.helpers import ROOT
from tests.waiting import PATIENCE_S

FOLDER = ROOT / "docs" / "inspector"
SHOWN = {
    "timeline": "/?sel=24",
    "action": "/actions/23",
    "row": "/row?table=reservations&key=r-dora",
    "origin": "/origin?table=reservations&key=r-dora&column=price",
    "table": "/table?table=reservations&at=20",
    "diff": "/diff?a=20&b=24",
    "causes": "/causes/23",
    "tables": "/tables",
    "projections": "/projections",
    "queue": "/queue",
    "about": "/about",
    "jobs": "/jobs",
    "text": "/?q=dora&exclude_actor=clerk",
    "refused": "/actions/18",
    "nothing": "/actions/999",
}
"""Pages by the names of their pictures; those of jobs come besides."""
SIZE = {"width": 1000, "height": 560}
_VERIFYING = {"ACTIONBUS_APP": "tests.adapters.inspector.inn.later:later"}
_SERVED = {"ACTIONBUS_APP": "tests.adapters.inspector.inn.app:inn", "PYTHONPATH": str(ROOT)}


@contextmanager
def served_with_jobs(folder: Path) -> Iterator[tuple[Inspected, Mapping[str, str]]]:
    """The inn with what jobs found about it, and the pages of these by the names of their pictures."""
    url = f"sqlite:///{folder / 'inn.db'}"
    with Bus(inn, url) as bus:
        bus.create()
        imported = tell(bus)
        jobs, door = Jobs(folder / "kept", _SERVED | {"ACTIONBUS_DATABASE_URL": url}), Door(bus)
        begun = {
            "what-if": jobs.start("what-if", ["replay", "fork", "--json", f'--edit={imported}:factor="1"']),
            "verify": jobs.start("verify", ["replay", "verify", "--json"], settings=_VERIFYING),
        }
        served = Inspected(bus, app_behind(door, bus, "embedded", jobs))
        served.door = door
        yield served, {name: f"/jobs/{job}" for name, job in begun.items()}
        served.close()
        jobs.close()


def take(browser: Browser, folder: Path, scratch: Path, size: Mapping[str, int] = SIZE, *, whole: bool = False) -> None:
    """A picture of each, light and dark."""
    with served_with_jobs(scratch) as (served, jobs):
        context = browser.new_context(viewport=dict(size))
        page = context.new_page()
        page.goto(f"{served.address}/enter?token={served.door.token}")
        for name, path in {**SHOWN, **jobs}.items():
            page.goto(served.address + path)
            if name in jobs:
                ended = page.locator("#job")
                expect(ended).not_to_have_attribute("data-state", "running", timeout=PATIENCE_S * 1000)
            _take_both(page, folder / name, whole)
        context.close()


def _take_both(page: Page, path: Path, whole: bool) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=path.with_name(f"{path.name}-{scheme}.png"), full_page=whole)


def main() -> None:
    """Write them anew; or take all at some widths: `FOLDER WIDTH...`."""
    with chromium() as browser:
        if len(sys.argv) < 3:
            FOLDER.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as scratch:
                take(browser, FOLDER, Path(scratch))
        for width in map(int, sys.argv[2:]):
            folder = Path(sys.argv[1]) / str(width)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as scratch:
                take(browser, folder, Path(scratch), {"width": width, "height": 900}, whole=True)


if __name__ == "__main__":
    main()
