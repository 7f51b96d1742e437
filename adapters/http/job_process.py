"""The process that watches over one job: runs its command, ends it when that is asked for, notes how it ended.

`jobs` begins it as a file, so that it imports nothing of ours and costs little. It is a process of its own, since a job
outlives whoever began it: gunicorn ends its workers now and then. Whoever wants the job to end leaves a file in its
folder, whichever process or machine he is on; nobody is signalled by a number that may be somebody else's by then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CANCELLED, KILLED = "cancelled", "killed"
"""Files by which a job is asked to end as Ctrl-C does, so that it cleans up behind itself; and at once."""
LOOK_S = 0.1
AGAIN_S = 10.0
"""Until it is asked again: a process that is just beginning may pass over what asks it to end."""


def run(home: Path, held: list[int], command: list[str]) -> int:
    """Run the command, which inherits the descriptors that are held: by them it is known that the job lives."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=held, start_new_session=True)
    again_at = 0.0
    while True:
        try:
            return process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            kills = (home / KILLED).exists()
            if kills or ((home / CANCELLED).exists() and time.monotonic() > again_at):
                again_at = time.monotonic() + AGAIN_S
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL if kills else signal.SIGINT)


def main(folder: str, held: str, *command: str) -> None:
    """Run it, and note its exit code in the folder."""
    home = Path(folder)
    code = run(home, [int(each) for each in held.split(",")], list(command))
    partial = home / "ended.part"
    # Not `values.payload`, since nothing of ours is imported here.
    partial.write_text(json.dumps({"code": code}))
    partial.rename(home / "ended.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
