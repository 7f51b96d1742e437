"""A command that is forked from the template is as one that is started (`tests/processes.py`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import processes
from tests.helpers import ROOT
from tests.shells import forking
from tests.waiting import eventually

WHAT_A_PROCESS_SEES = """
import json, os, signal, sys, threading, warnings
print(json.dumps([
    sys.argv, sys.path, sys.orig_argv, list(sys.flags), sys.warnoptions, __name__, os.getcwd(), dict(os.environ),
    os.getppid(), os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), threading.active_count(),
    [[each.encoding, each.errors, each.line_buffering, each.write_through, each.name, each.mode] for each in (sys.stdin, sys.stdout, sys.stderr)],
    [str(signal.getsignal(each)) for each in sorted(signal.valid_signals())], sorted(signal.pthread_sigmask(0, [])),
    sorted(os.listdir("/proc/self/fd")), os.umask(0), sys.stdin.read(), warnings.filters[0][0] == "error",
]))
print("told", file=sys.stderr)
"""
BOTH = pytest.mark.parametrize("run", [subprocess.run, processes.run], ids=["started", "forked"])


@pytest.mark.parametrize("options", [{}, {"start_new_session": True}, {"umask": 0o077}], ids=str)
@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONPATH": f"{ROOT}:more", "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "", "X": "é"},
    ],
    ids=str,
)
def test_a_forked_process_sees_what_a_started_one_sees(
    tmp_path: Path, env: dict[str, str], options: dict[str, Any]
) -> None:
    command = [sys.executable, "-c", WHAT_A_PROCESS_SEES, "--word", "é"]
    given = {"cwd": tmp_path, "env": os.environ | env, "input": "given", "capture_output": True, "text": True} | options
    forked, started = processes.run(command, **given), subprocess.run(command, check=False, **given)
    assert json.loads(forked.stdout) == json.loads(started.stdout)
    assert (forked.returncode, forked.stderr) == (0, "told\n")


@BOTH
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("1/0", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import atexit, os; atexit.register(os._exit, 5)", 5),
        ("import signal, threading; signal.pthread_kill(threading.main_thread().ident, 15)", -signal.SIGTERM),
        ("import os; print(); os.close(1)", 120),
        ("import sys; sys.exit(-1)", 255),
        ("import sys; sys.exit(True)", 1),
        ("import sys; sys.exit('told')", 1),
        ("import sys; sys.stdout.close()", 0),
    ],
)
def test_it_ends_alike(run: Any, code: str, status: int) -> None:
    env = os.environ | {"PYTHONUNBUFFERED": ""}
    assert run([sys.executable, "-c", code], env=env, capture_output=True).returncode == status


LEFT_FOR_THE_END = """
import atexit, sys, threading, time
main, kept = threading.main_thread(), open("kept", "w")
kept.write("kept")
atexit.register(print, "at exit")
def later():
    main.join()
    print("later", end=" ")
threading.Thread(target=later).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start() if "{}" else None
circle = [open("lost", "w")]
circle.append(circle)
sys.stdout.write("at once ")
"""


@BOTH
@pytest.mark.parametrize("daemon", ["", "daemon"])
def test_what_is_left_for_the_end_is_done(run: Any, daemon: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEFT_FOR_THE_END.format(daemon)]
    env = os.environ | {"PYTHONWARNINGS": "always"}
    done = run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "at once later at exit\n")
    if not daemon:  # nobody waits for that, whose interpreter may not get as far
        assert (tmp_path / "kept").read_text() == "kept"
        assert done.stderr.count("unclosed file") == 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_its_pid_is_that_of_our_child_and_signals_reach_it(how: signal.Signals) -> None:
    code = "import time; print('ready', flush=True); time.sleep(600)"
    with processes.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert psutil.Process(process.pid) in psutil.Process().children()
        process.send_signal(how)
        process.communicate()
    assert process.returncode == -how
    assert not psutil.pid_exists(process.pid)


def test_imports_are_there_already_and_code_of_the_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys; print(__file__, 'celery' in sys.modules, 'tests' in sys.modules)")
    done = processes.run([sys.executable, "-m", "mine"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'mine.py'} True False\n"


@pytest.mark.parametrize("command", [["-W", "error", "-c", "{}"], ["-X", "dev", "-c", "{}"], ["-c", "{}"]], ids=str)
def test_what_an_interpreter_must_do_itself_is_started(command: list[str]) -> None:
    code = "import sys; print('celery' in sys.modules)"
    env = os.environ | ({} if command[0] != "-c" else {"PYTHONHASHSEED": "7"})
    line = [sys.executable, *(each.format(code) for each in command)]
    assert processes.run(line, env=env, capture_output=True, text=True, check=True).stdout == "False\n"


def test_no_template_is_left_when_the_process_that_runs_tests_has_ended() -> None:
    code = "from tests import processes; print(processes.template()._process.pid, flush=True); input()"
    line = [sys.executable, "-c", code]
    process = subprocess.Popen(line, cwd=ROOT, stdin=-1, stdout=-1, text=True)
    assert process.stdout
    template = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    eventually(lambda: not template.is_running() or template.status() == psutil.STATUS_ZOMBIE, "the template is gone")


IN_A_SHELL = [
    ("python -c 'raise SystemExit(3)' || echo $?", "3\n"),
    ("echo given | python -c 'print(input())' | cat", "given\n"),
    ("python - word <<< 'import sys; print(sys.argv[1])'", "word\n"),
    (
        "cd /; X='é y' python -c 'import os, sys; print(os.getcwd(), os.environ[\"X\"], sys.argv[1:])' '' 'é'",
        "/ é y ['', 'é']\n",
    ),
    ("python -c 'import sys; sys.exit(\"told\")' 2>&1 >/dev/null || true", "told\n"),
    ("python -c 'import sys; print(\"celery\" in sys.modules)'", "True\n"),
    ("actionbus --version | cut -c 1-9", "actionbus\n"),
]


@pytest.mark.parametrize(("script", "printed"), IN_A_SHELL, ids=[script for script, _ in IN_A_SHELL])
def test_what_a_shell_starts_is_forked(script: str, printed: str) -> None:
    with forking("actionbus", "python") as commands:
        env = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (printed, "")


@pytest.mark.parametrize(("how", "status"), [("TERM", 143), ("HUP", 129)])
def test_what_a_shell_starts_in_the_background_it_can_end(how: str, status: int) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    script = f"coproc python -c '{code}'; read -r child <&${{COPROC[0]}}; kill -{how} $COPROC_PID; wait $COPROC_PID; echo $? $child"
    with forking("python") as commands:
        env = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    told, child = done.stdout.split()
    assert int(told) == status
    assert not psutil.pid_exists(int(child))
