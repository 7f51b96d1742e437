"""The ways out of a sandbox as a table: refused by name, or by the operating system where that confines."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.values.payload import loads
from actionbus.replay import LeavesSandbox, Replayer
from actionbus.replay.sandbox.confinement import why_not
from tests import processes
from tests.conftest import prepared, query
from tests.helpers import ROOT
from tests.replay.sandbox import ways_out
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


@pytest.fixture
def places(tmp_path: Path, sqlite_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A port at which somebody listens, a folder that is nobody's scratch, another database."""
    folder, scratch = tmp_path / "elsewhere", tmp_path / "scratch"
    for each in (folder, scratch):
        each.mkdir()
    (folder / "there").write_text("as it was")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    prepared(sqlite_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        found = {
            "port": listener.getsockname()[1],
            "folder": folder,
            "scratch": str(scratch),
            "other": str(sqlite_url.database),
            "postgres": "host=/nowhere",
        }
        monkeypatch.setattr(ways_out, "PLACE", found)
        yield found
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (folder / "there").read_text() == "as it was"
    assert [each.name for each in folder.iterdir()] == ["there"]


@pytest.fixture(scope="module")
def history() -> Iterator[Bus]:
    """One action that called back."""
    with Bus(make_application(), "sqlite://") as bus:
        bus.create()
        CallBack.function = lambda handler: None
        bus.execute("call_back")
        yield bus


@pytest.fixture(scope="module")
def replayers(history: Bus) -> Any:
    """Runs it again by other code."""

    def rerun(way: Any) -> Any:
        CallBack.function = lambda handler: way(handler) and None
        with Replayer(history.journal, make_application()) as replayer:
            (step,) = replayer.verify()
        return step

    return rerun


@pytest.mark.parametrize("how", ways_out.NAMED)
def test_it_is_refused_by_name(replayers: Any, places: dict[str, Any], how: str) -> None:
    step = replayers(ways_out.NAMED[how])
    assert step.verdict == "divergent"
    assert isinstance(step.rerun.error, LeavesSandbox), repr(step.rerun.error)
    assert "sandbox" in str(step.rerun.error)


@pytest.mark.parametrize("how", ways_out.OTHERWISE)
def test_it_is_refused(replayers: Any, places: dict[str, Any], how: str) -> None:
    step = replayers(ways_out.OTHERWISE[how])
    assert step.verdict == "divergent"
    assert loads(step.rerun.outcome.error)["message"] in ("too many attached databases - max 0", "3")


def test_scratch_files_and_what_only_reads_are_let_be(replayers: Any, places: dict[str, Any]) -> None:
    def way(handler: Any) -> None:
        Path(places["scratch"], "own").write_text("x")
        Path(places["scratch"], "own").unlink()
        assert (places["folder"] / "there").read_text() == "as it was"

    assert replayers(way).verdict == "same"


@pytest.mark.skipif(why_not() is not None, reason="the guarantee is Linux's on x86-64 and aarch64")
def test_the_kernel_refuses_what_the_guard_does_not_see(places: dict[str, Any]) -> None:
    told = json.dumps(places | {"folder": str(places["folder"])})
    line = [sys.executable, "-m", "tests.replay.sandbox.ways_out", told]
    done = processes.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # `system` and `popen` tell by what they return; a name is looked up in a file; a UNIX socket that is not there.
    let_be = {name: how for name, how in found.items() if how.endswith("returned")}
    assert set(let_be) <= {
        "system",
        "popen",
        "getaddrinfo",
        "gethostbyname",
        "gethostbyname_ex",
        "gethostbyaddr",
        "getnameinfo",
        "getfqdn",
        "finalizer",
        "sqlite3",
        "sqlite3.Connection",
    }, let_be
    assert not let_be.get("system", "").startswith("0 "), let_be
    assert (Path(places["scratch"]) / "kept").read_text() == "inside"
    assert query_is_untouched(places)


def query_is_untouched(places: dict[str, Any]) -> bool:
    """Whether the other database is as it was."""
    return query(URL.create("sqlite", database=places["other"]), "SELECT count(*) FROM accounts") == [(0,)]
