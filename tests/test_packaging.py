"""The wheel beside an application whose packages are called like our folders: neither is in the other's way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.helpers import ROOT
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
    "replay/past/history.py": """
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


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Where the commands of a fresh environment are, which has the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    # What the wheel needs is had from this environment; a path's own .pth files, ours among them, are not read.
    site = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder), "platbase": str(folder)}))
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    into = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*into, "--disable-pip-version-check", *wheels.glob("*.whl")], check=True)
    return folder / "bin"


class Project:
    """The application in a folder, and an environment that has the wheel."""

    def __init__(self, folder: Path, environment: Path, broker: str) -> None:
        self.folder = folder / "greeter"
        for name, code in APPLICATION.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code.lstrip())
            if file.parent != self.folder and name.endswith(".py"):
                (file.parent / "__init__.py").touch()
        self.bin = environment
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACTIONBUS_", "PYTHON"))}
        self.env = kept | {
            "ACTIONBUS_APP": "core.app:app",
            "ACTIONBUS_DATABASE_URL": "sqlite:///greeter.db",
            "ACTIONBUS_BROKER_URL": broker,
            "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
        }

    def run(self, *line: str) -> str:
        """Run a command of the environment in the application's folder; what it prints."""
        command = [self.bin / line[0], *line[1:]]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def project(tmp_path: Path, environment: Path, redis: Redis) -> Project:
    return Project(tmp_path, environment, redis.url)


@pytest.mark.early
@pytest.mark.timeout(900)
def test_an_application_may_call_its_packages_like_our_folders(project: Project) -> None:
    assert "caught there is nobody" in (printed := project.run("python", "run.py"))
    assert "{'name': 'ben'}" in printed, "its Flask"
    assert "('greet', 'same'), ('greet', 'same')" in (told := project.run("python", "-m", "replay.past.history"))
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
        eventually(lambda: outcomes(project.folder / "greeter.db"), "the worker ran the action")
    finally:
        worker.terminate()
        worker.wait()
    assert "succeeded" in project.run("actionbus", "log")


def outcomes(file: Path) -> int:
    """How many there are; who asks with a command again and again takes the time of who is asked about."""
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM journal WHERE kind = 'outcome'").fetchone()[0])


def test_the_wheel_holds_one_package(wheels: Path) -> None:
    [wheel] = wheels.glob("*.whl")
    with ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        names = set(archive.namelist())
    assert {top for top in tops if not top.endswith(".dist-info")} == {"actionbus"}
    assert {"actionbus/py.typed", "actionbus/core/bus.py", "actionbus/core/actions/create_kit.py"} <= names
    assert "actionbus/adapters/migrations/versions/0001_tables.py" in names


def test_the_wheel_holds_the_inspector_which_is_light(wheels: Path) -> None:
    """All that pages are made of is in it, as it is written: nothing is built, so nothing takes Node."""
    [wheel] = wheels.glob("*.whl")
    with ZipFile(wheel) as archive:
        found = {each.filename: each.compress_size for each in archive.infolist() if "/inspector/" in each.filename}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "adapters/inspector").rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert {name.removeprefix("actionbus/") for name in found} == there
    assert sum(found.values()) < 100_000


def test_pytest_pays_for_nothing_of_ours_before_a_fixture_is_used() -> None:
    code = "import sys, actionbus.pytest_plugin; print(sorted({'sqlalchemy', 'marshmallow', 'psycopg2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
