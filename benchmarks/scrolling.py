"""`python -m benchmarks.scrolling [SECONDS] [PER_SECOND]`: what the inspector costs the browser that it is open in.

The tasks of the page's main thread while a full timeline is scrolled, traced by Chromium five times; the memory of a
tab that follows a busy journal for some time. The tests ask the same in a short form (`test_costs.py`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, CDPSession, Page, expect

from actionbus import Bus
from tests.adapters.inspector.conftest import Inspected
from tests.adapters.inspector.inn.app import inn
from tests.chromium import chromium

TRACES: Final = 5
_CATEGORIES: Final = "devtools.timeline,toplevel,disabled-by-default-devtools.timeline"


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scrolling")
    parser.add_argument("seconds", type=int, nargs="?", default=60)
    parser.add_argument("per_second", type=int, nargs="?", default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser, followed(Path(folder), browser) as (bus, page):
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        longest = [longest_task_ms(browser, page) for _ in range(TRACES)]
        for what, spent in zip(("by the clock", "of the processor"), zip(*longest, strict=True), strict=True):
            told = ", ".join(f"{each:.0f}" for each in spent)
            print(f"longest task while 400 rows are scrolled, ms {what}: {told}; median {statistics.median(spent):.0f}")
        for at, heap, rows, nodes in memory(bus, page, given.seconds, given.per_second):
            done = f"{bus.journal.last() // 2:,} actions in all"
            print(
                f"  after {at:4.0f} s: {heap / 1e6:6.1f} MB of the heap, {nodes} nodes, {rows} rows, {done}", flush=True
            )
        print(f"load {os.getloadavg()[0]:.1f}")


@contextmanager
def followed(folder: Path, browser: Browser) -> Iterator[tuple[Bus, Page]]:
    """An inn with as many records as the page keeps, open in a browser."""
    with Bus(inn, f"sqlite:///{folder / 'inn.db'}") as bus:
        bus.create()
        bus.runner("clerk").execute_many([("reserve", {"id": f"first {n}", "guest": "G"}) for n in range(600)])
        with (
            closing(Inspected(bus)) as served,
            browser.new_context(viewport={"width": 1200, "height": 800}) as context,
        ):
            page = context.new_page()
            page.goto(f"{served.address}/enter?token={served.door.token}")
            page.goto(f"{served.address}/?limit=200")
            expect(page.locator("#live")).to_have_text("live")
            bus.runner("clerk").execute_many([("reserve", {"id": f"then {n}", "guest": "G"}) for n in range(250)])
            expect(page.locator("#records tbody tr")).to_have_count(400)
            yield bus, page


def longest_task_ms(browser: Browser, page: Page) -> tuple[float, float]:
    """Of the page's main thread, while it is scrolled from end to end: by the clock, and of the processor's time."""
    session = browser.new_browser_cdp_session()
    found: list[Any] = []
    session.on("Tracing.dataCollected", lambda told: found.extend(told["value"]))
    ended: list[bool] = []
    session.on("Tracing.tracingComplete", lambda told: ended.append(True))
    session.send("Tracing.start", {"categories": _CATEGORIES, "transferMode": "ReportEvents"})
    page.mouse.move(400, 500)
    for _ in range(40):
        page.mouse.wheel(0, 300)
        page.wait_for_timeout(16)
    for _ in range(40):
        page.mouse.wheel(0, -300)
        page.wait_for_timeout(16)
    session.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(20)
    session.detach()
    return _longest(found)


def _longest(events: list[Any]) -> tuple[float, float]:
    """Tasks of renderers' main threads: `RunTask` on threads that are named so."""
    threads = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        (each["dur"] / 1000, each.get("tdur", each["dur"]) / 1000)
        for each in events
        if each["ph"] == "X"
        and each["name"] in ("RunTask", "ThreadControllerImpl::RunTask")
        and (each["pid"], each["tid"]) in threads
    ]
    assert tasks, f"no task was traced; there are {sorted({each['name'] for each in events})[:20]}"
    return max(each for each, _ in tasks), max(each for _, each in tasks)


def memory(bus: Bus, page: Page, seconds: float, per_second: int) -> Iterator[tuple[float, int, int, int]]:
    """While so much is done, a few times: seconds, bytes of the heap after a collection, rows, nodes of the page."""
    ending = threading.Event()
    worker = threading.Thread(target=_do, args=(bus, per_second, ending))
    session = page.context.new_cdp_session(page)
    worker.start()
    begun = time.monotonic()
    try:
        for number in range(7):
            while time.monotonic() < begun + seconds * number / 6:
                page.wait_for_timeout(100)
            yield (time.monotonic() - begun, *_weighed(session, page))
    finally:
        ending.set()
        worker.join()


def _weighed(session: CDPSession, page: Page) -> tuple[int, int, int]:
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    nodes = session.send("Memory.getDOMCounters")["nodes"]
    return int(heap), page.locator("#records tbody tr").count(), int(nodes)


def _do(bus: Bus, per_second: int, ending: threading.Event) -> None:
    """So many actions a second, in chunks of a tenth of that."""
    runner, number, chunk = bus.runner("clerk"), 0, max(1, per_second // 10)
    begun = time.monotonic()
    while not ending.is_set():
        actions = [("reserve", {"id": f"more {number + n}", "guest": "Guest"}) for n in range(chunk)]
        runner.execute_many(actions)
        number += chunk
        ending.wait(max(0.0, begun + number / per_second - time.monotonic()))


if __name__ == "__main__":
    main()
