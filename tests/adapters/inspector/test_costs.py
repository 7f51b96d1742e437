"""What the inspector costs the browser: a tab that follows a busy journal stays as large as it was."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from benchmarks.scrolling import TRACES, followed, longest_task_ms, memory
from tests.conftest import TORTURE

SECONDS, PER_SECOND = (600.0, 200) if TORTURE else (1.5, 100)
ROUNDS, MOST_MS = (TRACES, 50) if TORTURE else (1, 500)
FIRST = 2 * (600 + 250)
"""Records, two of an action, that `followed` begins with."""


@pytest.mark.early
def test_a_tab_that_follows_a_busy_journal_stays_as_large_as_it_was(browser: Browser, tmp_path: Path) -> None:
    with followed(tmp_path, browser) as (bus, page):
        first, *_, last = list(memory(bus, page, SECONDS, PER_SECOND))[1:]
        assert first[2] == last[2] == 400
        assert last[1] < first[1] * 1.5 + 2_000_000, "bytes of the heap"
        assert last[3] < first[3] * 1.2, "nodes of the page"
        newest = page.locator("#records tbody tr").first
        assert bus.journal.last() > FIRST, "it was busy"
        expect(newest).to_have_attribute("data-position", str(bus.journal.last()))


def test_scrolling_never_keeps_the_page_for_long(browser: Browser, tmp_path: Path) -> None:
    """By the processor's time, since others may have it meanwhile."""
    with followed(tmp_path, browser) as (_, page):
        longest = [longest_task_ms(browser, page)[1] for _ in range(ROUNDS)]
        assert statistics.median(longest) < MOST_MS
