"""What a part of a service raises is an event in the log like any other, in the log's own form."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from actionbus.adapters.logs import formatter
from actionbus.adapters.supervisor import Part, Supervisor


class AsksToEnd(BaseException):
    """What no worker may keep for itself."""


def test_what_a_part_raises_is_one_line_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("actionbus")
    handler = logging.FileHandler(tmp_path / "log")
    handler.setFormatter(formatter("json"))
    monkeypatch.setattr(log, "handlers", [handler])
    parent = os.getpid()

    def fail(_stop: threading.Event) -> None:
        os.kill(parent, signal.SIGTERM)  # so that it is not started again
        raise AsksToEnd("two\nlines")

    assert Supervisor([Part("worker 1", fail)]).run() == 0
    handler.close()
    [told] = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert told["message"].startswith("worker 1 raised")
    assert "AsksToEnd: two" in json.dumps(told)
