"""Jobs: work that takes its time, each a command of `actionbus` in a process of its own. Begun by `job_api`.

A job is a folder: what was asked, how far it is, what it printed, how it ended. So it is kept, has an address, and
whichever process looks, one of gunicorn's or another server's, sees the same.

It is claimed as a queued action is: under a lock that its process holds, and that ends with it however it ends. There
are so many places, each a file; who has the lock of one may run.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from actionbus.adapters.http import job_process
from actionbus.adapters.http.refusals import Busy, NotFound
from actionbus.core.values import payload

MOST_AT_A_TIME: Final = 2
_MOST_LISTED: Final = 100
MOST_KEPT: Final = 1_000
_PATIENCE_S: Final = 5
MOST_SHOWN: Final = 200_000
"""Characters of what a job printed that are shown."""
_ENDED_WITH_1: Final = {"verify": "divergent", "bisect": "not found"}
_ID: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


class Job(NamedTuple):
    """One job, as it is now."""

    id: str
    kind: str
    words: list[str]
    """The command, without `actionbus`."""
    actor: str | None
    began: str
    state: str
    """running; done; divergent, of a verify; not found, of a bisect; refused; cancelled; lost, if it was killed."""
    code: int | None
    progress: Mapping[str, Any] | None
    printed: str
    is_whole: bool
    """Whether that is all that it printed."""

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.state == "running"


class Jobs:
    """The jobs of one folder. `settings` is the environment of commands: which application, which database."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, dict(settings)
        self._lock = threading.Lock()
        self._begun: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        kind: str,
        words: Sequence[str],
        *,
        actor: str | None = None,
        settings: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Begin one; its id. `settings` are more of the environment; `files` are written into its folder, each
        the value of an option of that name. Raises Busy.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as held:
            place = self._place(held)
            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
            home = self._folder / name
            home.mkdir(mode=0o700)
            given = [f"--{option}={home / option}" for option in files or {}]
            for option, text in (files or {}).items():
                (home / option).write_text(text, encoding="utf-8")
            line = [words[0], words[1], *given, *words[2:]] if given else list(words)
            told = {"kind": kind, "words": line, "actor": actor, "began": datetime.now(UTC).isoformat()}
            (home / "job.json").write_text(payload.dumps(told))
            process = self._process(home, line, place, settings or {})
        with self._lock:
            self._begun[name] = process
        threading.Thread(target=self._await, args=(name, process), daemon=True).start()
        self._forget()
        return name

    def _place(self, held: ExitStack) -> IO[bytes]:
        """One of the places, which its lock claims. Raises Busy."""
        for number in range(MOST_AT_A_TIME):
            file = held.enter_context((self._folder / f"place-{number}").open("wb"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return file
        raise Busy(f"{MOST_AT_A_TIME} jobs run already; cancel one, or wait for its end")

    def _process(
        self, home: Path, words: Sequence[str], place: IO[bytes], settings: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (
            (home / "printed").open("wb") as printed,
            (home / "progress").open("wb") as progress,
            (home / "lock").open("wb") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)  # of the open file, which its processes share and alone keep
            held = [each.fileno() for each in (progress, lock, place)]
            more = {"ACTIONBUS_PROGRESS_FD": str(progress.fileno()), "COLUMNS": "160"}
            watcher = [sys.executable, "-I", str(Path(job_process.__file__).resolve())]
            return subprocess.Popen(
                [*watcher, str(home), ",".join(map(str, held)), sys.executable, "-m", "actionbus", *words],
                env={**os.environ, **self._settings, **settings, **more},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=held,
                start_new_session=True,
            )

    def _await(self, name: str, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            del self._begun[name]

    def _forget(self) -> None:
        """Remove the oldest ones beyond those that are kept."""
        for name in self._names()[MOST_KEPT:]:
            if not _is_locked(self._folder / name / "lock"):
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def get(self, name: str) -> Job:
        """One of them. Raises NotFound."""
        home = self._folder / name
        if not _ID.fullmatch(name) or (told := _read(home / "job.json")) is None:
            raise NotFound("there is no such job")
        is_running, ended = _is_locked(home / "lock"), _read(home / "ended.json")
        code = ended["code"] if ended else None
        printed, is_whole = self.printed(name, MOST_SHOWN)
        state = _state(told["kind"], is_running, code, (home / job_process.CANCELLED).exists())
        return Job(
            name,
            told["kind"],
            told["words"],
            told["actor"],
            told["began"],
            state,
            code,
            _read(home / "progress") if is_running else None,
            printed,
            is_whole,
        )

    def printed(self, name: str, most: int | None = None) -> tuple[str, bool]:
        """What it printed so far, at most so many characters of it; and whether that is all."""
        try:
            with (self._folder / name / "printed").open(encoding="utf-8", errors="replace") as file:
                text = file.read(most)
                return text, not file.read(1)
        except FileNotFoundError:
            return "", True

    def all(self) -> list[Job]:
        """The latest of them, newest first."""
        return [self.get(name) for name in self._names()[:_MOST_LISTED]]

    def _names(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted((path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name)), reverse=True)

    def cancel(self, name: str) -> None:
        """End one, with all that it began, as Ctrl-C does: it cleans up behind itself. Asked again, it is killed.

        Raises NotFound. Does nothing to one that has ended.
        """
        if self.get(name).is_running:
            asked = self._folder / name / job_process.CANCELLED
            (asked.with_name(job_process.KILLED) if asked.exists() else asked).touch()

    def close(self) -> None:
        """End those that were begun here."""
        with self._lock:
            begun = dict(self._begun)
        for name in begun:
            self.cancel(name)
        for name, process in begun.items():
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.cancel(name)


def _state(kind: str, is_running: bool, code: int | None, was_cancelled: bool) -> str:
    if is_running:
        return "running"
    if was_cancelled:
        return "cancelled"
    if code is None or code < 0:
        return "lost"
    return "done" if code == 0 else _ENDED_WITH_1.get(kind, "refused") if code == 1 else "refused"


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found
