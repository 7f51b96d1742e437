"""`actionbus journal stream` and `subscriptions`, as whoever reads the lines meets them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from tests import processes
from tests.helpers import TOOL, Run, documents
from tests.projections.notes.app import make_application
from tests.projections.waiting import end_leases
from tests.waiting import PATIENCE_S, eventually

Start = Callable[..., processes.Popen[str]]


@pytest.fixture
def cli(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line over the notes."""
    monkeypatch.setenv("ACTIONBUS_APP", "tests.projections.notes_app:app")
    monkeypatch.setenv("ACTIONBUS_ELASTICSEARCH_URL", "embedded")
    return run


@pytest.fixture
def notes(cli: Run, url: URL) -> Iterator[Bus]:
    """A bus that writes what is streamed."""
    with Bus(make_application(), url) as bus:
        yield bus


@pytest.fixture
def start(cli: Run) -> Iterator[Start]:
    """Starts `actionbus journal stream …`; whatever still runs at the end is killed."""
    started: list[processes.Popen[str]] = []

    def begin(*options: str) -> processes.Popen[str]:
        line = [*TOOL, "journal", "stream", *options]
        pipe = processes.subprocess.PIPE
        started.append(processes.Popen(line, stdout=pipe, stderr=pipe, text=True, env=dict(os.environ)))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()


def put(bus: Bus, *texts: str) -> list[int]:
    """Notes; the positions of their outcomes."""
    return [bus.execute("put_note", {"note": "n", "text": each}).position for each in texts]


def read(process: processes.Popen[str], count: int) -> list[int]:
    """The positions in the next lines."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline())["position"] for _ in range(count)]


def streamed(cli: Run, *options: str) -> list[int]:
    return [each["position"] for each in documents(cli("journal", "stream", *options))]


def position(cli: Run, name: str) -> int:
    """Where a name is."""
    found = {each["name"]: each for each in documents(cli("subscriptions", "status", "--json"))}
    return int(found[name]["position"])


def test_lines_are_what_the_log_shows_in_order(cli: Run, notes: Bus) -> None:
    first, second = put(notes, "a", "\x1b[2J \u2028 \x7f")
    notes.execute("drop_note", {"note": "n"})
    lines = documents(cli("journal", "stream"))
    assert lines == documents(cli("log", "--json", "--after", "0"))
    assert [each["position"] for each in lines] == sorted(each["position"] for each in lines)
    assert streamed(cli, "--after", str(first), "--action", "put_note") == [second]
    assert len(streamed(cli, "--submitted")) == 6
    assert "no action 'nothing'" in cli("journal", "stream", "--action", "nothing", code=2).stderr


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # a file is not away
@pytest.mark.parametrize("named", [["--name", "q"], []])
def test_who_follows_outlives_a_database_that_is_away(notes: Bus, start: Start, named: list[str]) -> None:
    expected = put(notes, "a")
    process = start("--follow", *named)
    given = read(process, 1)
    for text_of in ("b", "c"):
        cut_off(notes)
        expected += put(notes, text_of)
        while given[-1] < expected[-1]:
            given += read(process, 1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "waiting for the database" in told, "Traceback" in told) == (0, True, False)
    assert sorted(set(given)) == expected


def cut_off(bus: Bus) -> None:
    """The server ends all connections to the database but this one."""
    bus.engine.dispose()
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with bus.engine.connect() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}"))


def test_a_name_goes_on_where_it_ended(cli: Run, notes: Bus) -> None:
    first, second = put(notes, "a", "b")
    assert streamed(cli, "--name", "q", "--after", str(first)) == [second]
    assert streamed(cli, "--name", "q") == []
    (third,) = put(notes, "c")
    assert streamed(cli, "--name", "q") == [third]
    assert (
        f"q is at position {position(cli, 'q')}"
        in cli("journal", "stream", "--name", "q", "--after", "1", code=2).stderr
    )
    cli("subscriptions", "reset", "q", "--to", str(first), "--actor", "ana")
    assert streamed(cli, "--name", "q", "--action", "put_note") == [second, third]
    assert "is a projection" in cli("journal", "stream", "--name", "notes", code=2).stderr
    assert "not a name" in cli("journal", "stream", "--name", "a b", code=2).stderr


def test_what_follows_hears_of_a_record_at_once(cli: Run, notes: Bus, start: Start) -> None:
    """Each line is there before the next record is written: nothing is held back in a buffer."""
    process = start("--follow", "--name", "q")
    for each in "abc":
        written = put(notes, each)
        assert read(process, 1) == written


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_it_leaves_nothing_half_done(cli: Run, notes: Bus, start: Start, asked: signal.Signals) -> None:
    process = start("--follow", "--name", "q")
    (first,) = put(notes, "a")
    assert read(process, 1) == [first]
    process.send_signal(asked)
    rest, error = process.communicate(timeout=60)
    assert (process.returncode, rest, error) == (0, "", "")
    assert position(cli, "q") >= first
    (second,) = put(notes, "b")
    assert streamed(cli, "--name", "q") == [second]


def test_a_reader_that_goes_away_is_given_it_again(cli: Run, notes: Bus, start: Start) -> None:
    process = start("--follow", "--name", "q")
    (first,) = put(notes, "a")
    assert read(process, 1) == [first]
    eventually(lambda: position(cli, "q") >= first, "the position of what was read")
    assert process.stdout is not None
    process.stdout.close()
    (second,) = put(notes, "b")
    assert process.wait(60) in (0, 1, 141)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert streamed(cli, "--name", "q") == [second]


def test_killed_it_repeats_what_it_had_not_noted_and_leaves_nothing_out(cli: Run, notes: Bus, start: Start) -> None:
    expected, got = [], []
    for _ in range(3):
        process = start("--follow", "--name", "q")
        expected += put(notes, "a", "b", "c")
        got.append(read(process, 2))
        process.kill()
        process.wait()
        assert process.stdout is not None
        told = process.stdout.read()
        got[-1] += [json.loads(line)["position"] for line in told.splitlines(keepends=True) if line.endswith("\n")]
        end_leases(notes.engine)
    got.append(streamed(cli, "--name", "q"))
    done: list[int] = []
    for each in got:
        assert each == sorted(set(each))
        if each:
            begun = expected.index(each[0])
            assert begun <= len(done), "nothing is left out"
            assert each == expected[begun : begun + len(each)]
            done = expected[: max(len(done), begun + len(each))]
    assert done == expected


def test_of_two_with_one_name_one_writes(cli: Run, notes: Bus, start: Start) -> None:
    one = start("--follow", "--name", "q")
    (first,) = put(notes, "a")
    assert read(one, 1) == [first]
    other = start("--follow", "--name", "q")
    assert other.stderr is not None
    assert "standing by" in other.stderr.readline()
    (second,) = put(notes, "b")
    assert read(one, 1) == [second]
    eventually(lambda: position(cli, "q") >= second, "the position of what was read")
    one.kill()
    one.wait()
    end_leases(notes.engine)
    (third,) = put(notes, "c")
    assert read(other, 1) == [third]


def test_pause_and_resume_of_a_projection(cli: Run, notes: Bus) -> None:
    put(notes, "a")
    cli("projections", "run", "--once")
    cli("projections", "pause", "notes", "--actor", "ana", "--reason", "too much load")
    told = cli("projections", "status").stdout
    assert "paused by ana at" in told
    assert "too much load" in told
    cli("projections", "status", "--check", code=1)
    put(notes, "b")
    assert "paused by ana" in cli("projections", "run", "--once", code=1).stderr
    cli("projections", "resume", "notes", "--actor", "ben")
    cli("projections", "run", "--once")
    decisions = documents(cli("log", "--json", "--after", "0"))
    named = [(each["action"], each["actor"]) for each in decisions if each["action"].endswith("_feeding")]
    assert named == [("pause_feeding", "ana"), ("resume_feeding", "ben")]
    assert "is not paused" in cli("projections", "resume", "notes", code=1).stderr
    cli("projections", "pause", "nothing", code=1)
