"""Verifies slices of history side by side, each by a command of its own. Used by `actionbus replay verify --jobs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Any

from actionbus.adapters.cli.common import Environment
from actionbus.adapters.cli.printing import FAILED, SUCCEEDED, fail


def side_by_side(env: Environment, parts: Sequence[tuple[int, int]], options: Sequence[str]) -> Iterator[Any]:
    """The documents that `verify --slice` prints for each of these parts of history, in their order.

    What a command prints waits in a file, so that none waits for the others. Ends the program where one fails.
    """
    with ExitStack() as held:
        begun: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        for low, high in parts:
            told: IO[bytes] = held.enter_context(TemporaryFile())
            command = [sys.executable, "-m", "actionbus", "replay", "verify", "--slice", "--from", str(low), "--to"]
            process = subprocess.Popen([*command, str(high), *options], stdout=told, env=named(env))
            held.callback(_end, process)
            begun.append((process, told))
        for process, answer in begun:
            if process.wait() not in (SUCCEEDED, FAILED):
                raise fail("a slice of history could not be verified; what is wrong with it is said above", FAILED)
            answer.seek(0)
            yield from map(json.loads, answer)


def named(env: Environment) -> dict[str, str]:
    """The environment of a command that has the same options."""
    given = {"APP": env.app_path, "DATABASE_URL": env.database, "SCHEMA": env.schema, "BROKER_URL": env.broker}
    return {**os.environ, **{f"ACTIONBUS_{name}": value for name, value in given.items() if value is not None}}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
