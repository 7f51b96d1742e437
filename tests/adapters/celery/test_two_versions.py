"""A rolling deploy: real workers of two versions of one application on one queue. All takes effect exactly once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, Outcome
from actionbus.celery import CeleryBroker
from actionbus.core.gateway.ticket import given
from tests import processes
from tests.adapters.celery.workers import Workers
from tests.conftest import query
from tests.core.queues import time_passes
from tests.helpers import ROOT
from tests.servers import Redis

GREET = """
from sqlalchemy import text

from actionbus import ActionHandler, Arg


class Greet(ActionHandler):
    version = {version}
    requires = ("session",)
    arguments = {{"{argument}": Arg(str, required=True)}}

    def execute(self):
        self.session.execute(text("INSERT INTO greetings VALUES (:n, {version})"), {{"n": self.args.{argument}}})
        return {version}
"""
ONE_MORE = GREET.replace("Greet", "Part")
UPCAST = """
    @classmethod
    def upcast(cls, arguments, version):
        return {"whom": arguments["name"]}
"""
OLD, NEW = "old", "new"
ARGUMENT = {OLD: "name", NEW: "whom"}
BATCH = 12


class Deployment:
    """Two versions of one application as folders, a database and a broker. The newer one has an action more."""

    def __init__(self, folder: Path, url: URL, redis: Redis) -> None:
        self._folder = folder
        for number, name in enumerate((OLD, NEW), start=1):
            self._write(name, "greet", GREET.format(version=number, argument=ARGUMENT[name]))
        self._write(NEW, "part", ONE_MORE.format(version=1, argument="whom"))
        self.workers = {name: Workers(url, redis, folder / f"{name}.log") for name in (OLD, NEW)}
        for name, workers in self.workers.items():
            workers.environment |= {"PYTHONPATH": f"{folder / name}:{ROOT}", "ACTIONBUS_APP": "greeting:app"}
        # No code of either version: it looks on.
        self.bus = Bus(Application("onlooker", actions=["tests.core.no_actions"]), url, broker=CeleryBroker(redis.url))
        self.bus.journal.create()
        query(url, "CREATE TABLE greetings (name VARCHAR(40), version INTEGER)")

    def _write(self, version: str, action: str, code: str) -> None:
        actions = self._folder / version / "greeting" / "actions"
        actions.mkdir(parents=True, exist_ok=True)
        (actions / "__init__.py").touch()
        (actions / f"{action}.py").write_text(code)
        declared = "from actionbus import Application\napp = Application('greeting', actions='greeting.actions')\n"
        (actions.parent / "__init__.py").write_text(declared)

    def give_an_upcast(self) -> None:
        self._write(NEW, "greet", GREET.format(version=2, argument="whom") + UPCAST)

    def queue(self, version: str, names: list[str], action: str = "greet") -> list[UUID]:
        """Queue by the code of a version, from its command line."""
        command = [sys.executable, "-m", "actionbus", "run", action, "--async", "--json", "--arguments", "-"]
        lines = "".join(json.dumps({ARGUMENT[version]: name}) + "\n" for name in names)
        env = os.environ | self.workers[version].environment
        done = processes.run(command, env=env, input=lines, capture_output=True, text=True, check=True)
        return [UUID(json.loads(line)["action_id"]) for line in done.stdout.splitlines()]

    def left(self, action_id: UUID) -> bool:
        """Whether a worker has looked at it and left it to others, at the cost of no attempt."""
        run = self.bus.runs.get(action_id)
        return run is not None and run.problem is not None and run.attempts == 0

    def outcome(self, action_id: UUID) -> Outcome:
        """The outcome, waited for."""
        any_worker = self.workers[NEW]
        any_worker.until(lambda: self.is_settled(action_id))
        record = self.bus.journal.outcome(action_id)
        assert record is not None
        return given(record)

    def is_settled(self, action_id: UUID) -> bool:
        """Whether it has an outcome; if it was left to others, its next message is sent now."""
        run = self.bus.runs.get(action_id)
        if run is not None and run.state == "queued":
            time_passes(self.bus)
        return self.bus.journal.outcome(action_id) is not None

    def greetings(self) -> list[tuple[str, int]]:
        """Who was greeted, by which version."""
        with self.bus.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT name, version FROM greetings ORDER BY name")
            return [(name, version) for name, version in found]

    def close(self) -> None:
        for workers in self.workers.values():
            workers.close()
        self.bus.close()


@pytest.fixture
def deployment(tmp_path: Path, url: URL, redis: Redis) -> Iterator[Deployment]:
    found = Deployment(tmp_path, url, redis)
    yield found
    found.close()


@pytest.mark.parametrize(("queued_by", "picked_first_by"), [(NEW, OLD), (OLD, NEW)])
def test_what_another_version_queued_is_left_to_it(
    deployment: Deployment, queued_by: str, picked_first_by: str
) -> None:
    [action_id] = deployment.queue(queued_by, ["ann"])
    wrong = deployment.workers[picked_first_by]
    wrong.start("-c", "1")
    wrong.until(lambda: deployment.left(action_id))
    wrong.until(lambda: "is left to another worker" in wrong.told())
    deployment.workers[queued_by].start("-c", "1")
    assert deployment.outcome(action_id).status == "succeeded"
    assert deployment.greetings() == [("ann", 1 if queued_by == OLD else 2)]


def test_what_an_older_worker_does_not_know_is_left_to_a_newer(deployment: Deployment) -> None:
    [action_id] = deployment.queue(NEW, ["ann"], action="part")
    old = deployment.workers[OLD]
    old.start("-c", "1")
    old.until(lambda: deployment.left(action_id))
    deployment.workers[NEW].start("-c", "1")
    assert deployment.outcome(action_id).status == "succeeded"


def test_a_rolling_deploy_loses_nothing(deployment: Deployment) -> None:
    """Both versions queue, both run, and the older one goes away in the end, as it does in a deploy."""
    deployment.give_an_upcast()
    old = deployment.workers[OLD].start("-c", "1")
    deployment.workers[NEW].start("-c", "1")
    names = {OLD: [f"old {number}" for number in range(BATCH)], NEW: [f"new {number}" for number in range(BATCH)]}
    queued = deployment.queue(OLD, names[OLD]) + deployment.queue(NEW, names[NEW])
    old.terminate()
    assert old.wait(60) == 0
    last = deployment.queue(OLD, ["last"])
    for action_id in queued + last:
        assert deployment.outcome(action_id).status == "succeeded"
    greeted = deployment.greetings()
    assert [name for name, _ in greeted] == sorted([*names[OLD], *names[NEW], "last"])
    assert {version for name, version in greeted if name in names[NEW]} == {2}
    assert dict(greeted)["last"] == 2
    assert deployment.bus.runs.counts() == {"queued": 0, "due": 0, "running": 0}
