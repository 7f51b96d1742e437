"""The inn whose history is looked at, served to a real Chromium. One browser and one inn serve all tests that only look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from actionbus import Bus
from actionbus.adapters.flask.connections import Server
from actionbus.adapters.http.access import STOPPING
from actionbus.adapters.http.jobs import Jobs
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import THREADS, app_behind
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.chromium import chromium
from tests.helpers import ROOT


class Inspected:
    """A bus behind the inspector's door, served on the loopback interface."""

    def __init__(self, bus: Bus, app: Any = None, path: str = "") -> None:
        self.bus, self.door = bus, Door(bus)
        wsgi = app or app_behind(self.door, bus, "embedded")
        self._is_ending = threading.Event()
        self._server = Server(self._told_when(wsgi), liveness=None, host="127.0.0.1", port=0, threads=THREADS)
        self.address = f"http://127.0.0.1:{self._server.effective_port}{path}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _told_when(self, app: Any) -> Any:
        """The app, whose streams end with the server."""

        def with_stopping(environ: dict[str, Any], start_response: Any) -> Any:
            environ[STOPPING] = self._is_ending
            return app(environ, start_response)

        return with_stopping

    def _run(self) -> None:
        while not self._is_ending.is_set():
            self._server.turn(0.05)
        self._server.shut_down()

    def close(self) -> None:
        """End it."""
        self._is_ending.set()
        self._thread.join()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """The story of the inn."""
    folder: Path = tmp_path_factory.mktemp("inn")
    with Bus(inn, f"sqlite:///{folder / 'inn.db'}") as bus:
        bus.create()
        tell(bus)
        found = Inspected(bus)
        yield found
        found.close()


@pytest.fixture(scope="package")
def visitor(browser: Browser, inspected: Inspected) -> Iterator[BrowserContext]:
    """A browser that was let in."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.goto(f"{inspected.address}/enter?token={inspected.door.token}")
    page.close()
    yield context
    context.close()


@contextmanager
def with_jobs(folder: Path, code: str = "inn.app:inn") -> Iterator[Inspected]:
    """The inn, and a folder for jobs, whose commands run the code that is named."""
    url = f"sqlite:///{folder / 'inn.db'}"
    settings = {
        "ACTIONBUS_APP": f"tests.adapters.inspector.{code}",
        "ACTIONBUS_DATABASE_URL": url,
        "PYTHONPATH": str(ROOT),
        "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
    }
    with Bus(inn, url) as bus:
        bus.create()
        tell(bus)
        jobs, door = Jobs(folder / "kept", settings), Door(bus)
        found = Inspected(bus, app_behind(door, bus, "embedded", jobs))
        found.door, found.jobs = door, jobs
        yield found
        jobs.close()
        found.close()


@contextmanager
def entered(browser: Browser, inspected: Inspected, width: int = 1100, height: int = 900) -> Iterator[Page]:
    """A page of somebody who was let in; at the end nothing may have gone wrong on it."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    watched = Watched(page, inspected.address)
    page.goto(f"{inspected.address}/enter?token={inspected.door.token}")
    yield page
    assert watched.wrong == []
    context.close()


class Watched:
    """A page, and whatever went wrong on it: refused by its policy, raised by its script, answered amiss."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address, self.wrong = page, address, list[str]()
        page.on("console", lambda told: self._note(told.type, told.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, kind: str, text: str) -> None:
        is_refusal = "the server responded with a status of 40" in text  # of a page that was asked for in vain
        if kind in ("error", "warning") and not is_refusal:
            self.wrong.append(text)

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def here(self) -> str:
        """The address below the inspector's."""
        return self.page.url.removeprefix(self.address)


@pytest.fixture
def watched(visitor: BrowserContext, inspected: Inspected) -> Iterator[Watched]:
    """A new page; at the end nothing may have gone wrong on it."""
    page = visitor.new_page()
    found = Watched(page, inspected.address)
    yield found
    page.close()
    assert found.wrong == []


Look = Callable[[str], Page]


@pytest.fixture
def look(watched: Watched) -> Look:
    """Open a path in that page."""
    return watched.open
