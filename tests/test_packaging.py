"""The wheel beside an application whose packages are called like our folders: neither is in the other's way."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.packages import build_wheel
from tests.servers import Redis
from tests.waiting import eventually

APPLICATION = {
    "core/app.py": """
from actionbus import Application
from core.models import Base
from projections.greetings import Greetings

app = Application("greeter", actions=["core.actions"], models=Base.metadata, projections=[Greetings])
""",
    "core/models.py": """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Greeting(Base):
    __tablename__ = "greetings"
    name: Mapped[str] = mapped_column(primary_key=True)
""",
    "core/errors.py": "class GreetingFailed(Exception):\n    pass\n",
    "core/actions/greet.py": """
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Arg
from core.errors import GreetingFailed
from core.models import Greeting


class Greet(ActionHandler):
    \"\"\"Greet somebody.\"\"\"

    requires = ["session"]
    arguments = {"name": Arg(str, required=True)}
    session: Session

    def execute(self) -> dict[str, str]:
        if self.args.name == "nobody":
            raise GreetingFailed("there is nobody")
        self.session.add(Greeting(name=self.args.name))
        return {"name": self.args.name}
""",
    "projections/greetings.py": """
from actionbus.projections import Projection, on


class Greetings(Projection):
    version = 1
    mappings = {"properties": {"name": {"type": "text"}}}

    @on("greet", key="name")
    def greeted(self, document, record):
        return {"name": record.arguments["name"]}
""",
    "adapters/web.py": """
from flask import Flask, g

from actionbus.flask import ActionBus, provide_action_runner
from core.app import app as application

web = Flask("web")
web.config["ACTIONBUS_DATABASE_URL"] = "sqlite:///greeter.db"
ActionBus(web, application=application)


@web.post("/hello/<name>")
@provide_action_runner
def hello(name):
    return g.action_runner.execute("greet", {"name": name}).result
""",
    "replay/history.py": """
import core.app
import projections.greetings

from actionbus import Bus
from actionbus.replay import Replayer

bus = Bus(core.app.app, "sqlite:///greeter.db")
with Replayer(bus.journal, core.app.app) as replayer:
    print([(step.record.action, step.verdict) for step in replayer.verify()])
print([record.error["type"] for record in bus.journal.read(status="failed")])
""",
    "run.py": """
from adapters.web import web
from core.app import app
from core.errors import GreetingFailed

from actionbus import Bus

bus = Bus(app, "sqlite:///greeter.db")
bus.journal.create()
app.models.create_all(bus.engine)
bus.execute("greet", {"name": "ann"}, actor="ann")
try:
    bus.execute("greet", {"name": "nobody"}, actor="ann")
except GreetingFailed as error:
    print("caught", error)
print(web.test_client().post("/hello/ben").get_json())
""",
    "tests/test_greeter.py": """
from core.errors import GreetingFailed
import adapters.web
import replay


def test_greet(given, project):
    given().when("greet", {"name": "ann"}).then(status="succeeded")
    assert project("greetings", "ann") == {"name": "ann"}


def test_failure(given):
    given().when("greet", {"name": "nobody"}).then(status="failed")
""",
    "pyproject.toml": '[tool.pytest.ini_options]\nactionbus_app = "core.app:app"\npythonpath = ["."]\n',
}


class Project:
    """The application in a folder, and a fresh environment that has the wheel."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder / "greeter"
        for name, code in APPLICATION.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code.lstrip())
            if file.parent != self.folder and name.endswith(".py"):
                (file.parent / "__init__.py").touch()
        self.wheels = build_wheel(folder)
        self.bin = folder / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.bin.parent], check=True)
        # What the wheel needs is had from this environment; a path's own .pth files, ours among them, are not read.
        at = {"base": str(self.bin.parent), "platbase": str(self.bin.parent)}
        site = Path(sysconfig.get_path("purelib", "posix_prefix", at))
        (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        into = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet", "--no-deps"]
        subprocess.run([*into, "--disable-pip-version-check", *self.wheels.glob("*.whl")], check=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACTIONBUS_", "PYTHON"))}
        self.env = kept | {
            "ACTIONBUS_APP": "core.app:app", "ACTIONBUS_DATABASE_URL": "sqlite:///greeter.db",
            "ACTIONBUS_BROKER_URL": broker, "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
        }  # fmt: skip

    def run(self, *line: str) -> str:
        """Run a command of the environment in the application's folder; what it prints."""
        command = [self.bin / line[0], *line[1:]]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def project(tmp_path: Path, redis: Redis) -> Iterator[Project]:
    return Project(tmp_path, redis.url)


def test_an_application_may_call_its_packages_like_our_folders(project: Project) -> None:
    assert "caught there is nobody" in (printed := project.run("python", "run.py"))
    assert "{'name': 'ben'}" in printed, "its Flask"
    assert "('greet', 'same'), ('greet', 'same')" in (told := project.run("python", "-m", "replay.history"))
    assert "['core.errors:GreetingFailed']" in told, "its own errors have their own names"
    for pytest_ in (("python", "-m", "pytest"), ("python", "-c", "import sys, pytest; sys.exit(pytest.main())")):
        assert "2 passed" in project.run(*pytest_, "-p", "no:cacheprovider")
    project.run("actionbus", "replay", "verify", "--all")  # exit code 0: no divergence
    project.run("actionbus", "projections", "run", "--once")
    assert "ben" in project.run("actionbus", "search", "ben")


def test_its_worker_runs(project: Project) -> None:
    project.run("actionbus", "db", "upgrade", "--models")
    project.run("actionbus", "run", "greet", "--name", "cem", "--async")
    with (project.folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [project.bin / "actionbus", "worker"], cwd=project.folder, env=project.env, stdout=log, stderr=log
        )
    try:
        eventually(lambda: "succeeded" in project.run("actionbus", "log"), "the worker ran the action")
    finally:
        worker.terminate()
        worker.wait()


def test_the_wheel_holds_one_package(tmp_path: Path) -> None:
    [wheel] = build_wheel(tmp_path).glob("*.whl")
    with ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        names = set(archive.namelist())
    assert {top for top in tops if not top.endswith(".dist-info")} == {"actionbus"}
    assert {"actionbus/py.typed", "actionbus/core/bus.py", "actionbus/core/actions/create_kit.py"} <= names
    assert "actionbus/adapters/migrations/versions/0001_journal.py" in names


def test_pytest_pays_for_nothing_of_ours_before_a_fixture_is_used() -> None:
    code = "import sys, actionbus.pytest_plugin; print(sorted({'sqlalchemy', 'marshmallow', 'psycopg2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
