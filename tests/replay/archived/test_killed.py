"""An archive is killed at every step, again and again, while others write: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.history import archiving, thinning
from actionbus.core.storage.archives import archives
from actionbus.replay import transfer
from actionbus.replay.archive import JOURNAL, archive
from tests.conftest import TORTURE, prepared, query
from tests.processes import CONTEXT
from tests.replay.archived.history import live, told
from tests.shop.app import make_application

WRITERS = 8
EVERY = 1 if TORTURE else 101
"""Steps between two kills."""


def _until(url: str, upto: int, folder: str, steps: int) -> None:
    """Archive, and be killed at a step; each record, image and line is one, and so is what is between them."""
    thinning._KEYS, archiving._RECORDS = 2, 7  # type: ignore[misc]
    done = 0

    def watch(_what: str) -> Callable[[], None]:
        step()
        return step

    def step() -> None:
        nonlocal done
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    with Bus(make_application(), url) as bus:
        operate = bus.operate

        def operated(*given: Any, **named: Any) -> Any:
            step()
            outcome = operate(*given, **named)
            step()
            return outcome

        bus.operate = operated  # type: ignore[method-assign]
        archive(bus, upto, Path(folder), operator=True, watch=watch)


def _write(bus: Bus, number: int, stop: threading.Event) -> None:
    seed = number
    while not stop.is_set():
        seed += WRITERS
        with suppress(Exception):
            bus.execute("open_account", {"id": seed, "name": f"w{seed}"}, idempotency_key=f"w{seed}")
            bus.execute("deposit", {"id": 1 + number % 5, "amount": 1})


@pytest.mark.timeout(3_000 if TORTURE else 300)
def test_killed_at_every_step_while_eight_write(url: URL, tmp_path: Path) -> None:
    prepared(url, recorded=True)
    where, folder = url.render_as_string(hide_password=False), tmp_path / "archive"
    stop = threading.Event()
    with Bus(make_application(), url) as bus:
        live(bus, 30)
        upto = bus.journal.settled()
        writers = [threading.Thread(target=_write, args=(bus, number, stop)) for number in range(WRITERS)]
        for each in writers:
            each.start()
        try:
            place = archiving.place_at(bus.journal, upto)
            before, state = _positions(url, place.upto), told(bus, place.upto)
            later = bus.journal.settled(wait=True)
            state_later = told(bus, later)
            code, steps = -signal.SIGKILL, 1
            while code == -signal.SIGKILL:
                process = CONTEXT.Process(target=_until, args=(where, upto, str(folder), steps))
                process.start()
                process.join()
                code, steps = process.exitcode, steps + EVERY
                assert (told(bus, place.upto), told(bus, later)) == (state, state_later)
        finally:
            stop.set()
            for each in writers:
                each.join()
        assert code == 0
        (done,) = archives(bus.backend)
        assert (done.state, done.upto, done.records) == ("removed", place.upto, len(before))
        lines = list(transfer.lines_of(folder / JOURNAL))[1:]
        assert [each["position"] for each in lines if transfer.kind_of(each) == "record"] == before
        assert _left(url, done.upto) == []
        keys = query(url, "SELECT count(*) FROM actionbus_archived_keys")[0][0]
        assert keys == sum(bool(e["idempotency_key"]) for e in lines if transfer.kind_of(e) == "record")
        assert told(bus, place.upto) == state


def _positions(url: URL, upto: int) -> list[int]:
    return [each for (each,) in query(url, f"SELECT position FROM journal WHERE position <= {upto} ORDER BY 1")]


def _left(url: URL, upto: int) -> list[Any]:
    """What is there still, though its action ended before the cut."""
    return query(
        url,
        f"SELECT s.position FROM journal s WHERE s.position <= {upto} AND (s.kind <> 'submitted' OR EXISTS "
        f"(SELECT 1 FROM journal o WHERE o.action_id = s.action_id AND o.kind = 'outcome' AND o.position <= {upto}))",
    )
