"""Many actions from JSON lines, for `actionbus run`: in chunks, with progress; or one by one where they are queued."""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from actionbus.adapters.cli.common import print_json
from actionbus.adapters.cli.printing import FAILED, INTERRUPTED, REJECTED, SUCCEEDED, USAGE, fail, print_no_more, say
from actionbus.adapters.cli.progress import progress
from actionbus.adapters.cli.signals import SigintGuard
from actionbus.adapters.json_views import described_outcome
from actionbus.core import ActionRunner, Outcome
from actionbus.core.values.payload import parse

_LISTED: Final = 20
Lines = Iterator[str | None]
"""None where no line is there yet, and the next one is waited for."""
Asked = tuple[Any, Any, Any]
Read = Callable[[Any], Asked]
Result = tuple[str, str, dict[str, Any]]
"""What came of a line: its status, the message if that is no good one, and all of it as JSON."""

Each = Callable[[Iterator[Asked | None]], Iterator[Result]]


class LinesRun:
    """Runs the lines of one source; counts what came of them."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._counts: dict[str, int] = {}
        self._listed: list[str] = []
        self._guard = SigintGuard()
        self._taken = 0
        """Lines read so far."""
        self._done = 0
        """The last line of which it is known what came of it."""
        self._waiting: deque[tuple[int, Result | None]] = deque()
        """Lines without an answer that was told: what came of them, if they are no actions."""

    def run(self, what: str, source: str, each: Each, read: Read) -> int:
        """Run them all; the exit code. `each` answers what is asked, `read` makes that of a line's JSON."""
        try:
            with self._guard, _lines(source) as (lines, total), progress(f"running {what}", total) as advance:
                answers = each(self._asked(lines, read, advance))
                while True:
                    with self._guard.uninterrupted():
                        answer = next(answers, None)
                        self._tell(answer)
                    if answer is None:
                        break
        except KeyboardInterrupt:
            self._report()
            raise fail(f"interrupted after line {self._done}; {self._standing()}", INTERRUPTED) from None
        except OSError as error:
            self._report()
            print_no_more()
            raise fail(f"{self._standing()}, but this could not be printed: {error.strerror}", FAILED) from None
        self._report()
        good = {"succeeded", "queued"}
        found = set(self._counts)
        return SUCCEEDED if found <= good else REJECTED if found <= {*good, "rejected"} else FAILED

    def _asked(self, lines: Lines, read: Read, advance: Callable[[], None]) -> Iterator[Asked | None]:
        """What the lines ask for. Ctrl-C strikes here at once: of what was not begun the journal has nothing."""
        while True:
            with self._guard.interruptible():
                line = next(lines, "")
            if line == "":
                return
            if line is None:
                yield None
                continue
            self._taken += 1
            advance()
            if not line.strip():
                continue
            try:
                asked = read(parse(line))
            except ValueError as error:
                told = {"status": "rejected", "error": "NotJson", "message": str(error)}
                self._waiting.append((self._taken, ("rejected", f"not JSON: {error}", told)))
            else:
                self._waiting.append((self._taken, None))
                yield asked

    def _tell(self, answer: Result | None) -> None:
        """Tell what came of the next line that is an action, after those before it that are none."""
        while self._waiting:
            number, known = self._waiting.popleft()
            if known is None and answer is None:  # cannot be: every action has an answer, or something is raised
                continue
            status, message, told = known or answer or ("", "", {})
            self._done = number
            self._counts[status] = self._counts.get(status, 0) + 1
            if self._as_json:
                print_json({"line": number, **told})
            if message and len(self._listed) < _LISTED:
                self._listed.append(f"line {number}: {status}: {message}")
            if known is None:
                return

    def _standing(self) -> str:
        done = f"everything up to line {self._done} is done"
        if not any(known is None for _, known in self._waiting):
            return f"{done}, nothing of later lines is"
        return f"{done}; `actionbus log` tells which of the lines up to {self._taken} are, of later ones nothing is"

    def _report(self) -> None:
        for line in self._listed:
            say(line, stderr=True)
        bad = sum(n for status, n in self._counts.items() if status not in ("succeeded", "queued"))
        if (unlisted := bad - len(self._listed)) > 0:
            say(f"… and {unlisted} more; `actionbus log --status rejected` (or denied, failed) lists all", stderr=True)
        counted = ", ".join(f"{number} {status}" for status, number in sorted(self._counts.items()))
        say(counted or "nothing to do", stderr=True)


def in_chunks(runner: ActionRunner) -> Each:
    """What runs actions many to a transaction."""
    return lambda asked: map(_result, runner.execute_each(asked))


def _result(outcome: Outcome) -> Result:
    if outcome.status == "succeeded":
        return outcome.status, "", described_outcome(outcome)
    error: Mapping[str, Any] = outcome.error or {}
    message = (str(error.get("message") or "").splitlines() or [""])[0]
    kind = str(error.get("type", "")).rpartition(":")[2]
    told: dict[str, Any] = {"status": outcome.status, "error": kind, "message": message}
    told |= {"action_id": outcome.action_id} | ({"errors": error["errors"]} if "errors" in error else {})
    return outcome.status, message or outcome.status, told


def named(value: Any) -> Asked:
    """What a line asks that names its action. Raises ValueError."""
    keys = {"action", "arguments", "idempotency_key"}
    if not isinstance(value, dict) or "action" not in value or not set(value) <= keys:
        raise ValueError(f"expected an object with `action`; it may have: {', '.join(sorted(keys))}")
    return value["action"], value.get("arguments"), value.get("idempotency_key")


@contextmanager
def _lines(source: str) -> Iterator[tuple[Lines, int | None]]:
    """The lines, and how many there are if that can be known."""
    if source == "-":
        yield _arriving(sys.stdin), None
        return
    path = Path(source[1:])
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise fail(f"{path} cannot be read: {error.strerror}", USAGE) from None
    with file:
        total = sum(1 for _ in file)
        file.seek(0)
        yield iter(file), total


def _arriving(stream: TextIO) -> Lines:
    """Lines as they come. Who writes slowly, and does not close, does not wait for lines that make a chunk full."""
    try:
        descriptor = stream.fileno()
        select.select([descriptor], [], [], 0)
    except (OSError, ValueError):  # no file of the system's
        yield from stream
        return
    rest = b""
    while True:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "surrogateescape") + "\n"
    if rest:
        yield rest.decode("utf-8", "surrogateescape")
