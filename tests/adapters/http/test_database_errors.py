"""What a database's errors are to a client: only a lost connection is 503; a handler's own are its action's failure."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from actionbus import ActionHandler, Application, Arg, Bus, Misuse
from actionbus.adapters.http.databases import is_lost
from actionbus.flask import ActionBus
from actionbus.testing import HeldBroker
from tests.adapters.conftest import Web
from tests.helpers import write_package
from tests.servers import Server

SECRET = "the-value-in-the-row"
STATEMENTS = {
    "a value twice": ("INSERT INTO things (id, name) VALUES (1, :value)", 409),
    "no such table": ("INSERT INTO nowhere VALUES (:value)", 500),
    "no such column": ("INSERT INTO things (nocolumn) VALUES (:value)", 500),
    "no SQL": ("SELEKT :value", 500),
    "null": ("INSERT INTO things (id, name) VALUES (7, NULL)", 500),
    "a check": ("INSERT INTO things (id, name) VALUES (-1, :value)", 500),
    "a number that is none": ("INSERT INTO things (id, name) VALUES (CAST(:value AS integer), 'x')", 500),
    "through the driver": ("driver", 409),
}


class Put(ActionHandler):
    """Runs the statement it is asked for."""

    requires = ("db",)
    arguments = {"what": Arg(str, required=True)}
    db: Session

    def execute(self) -> None:
        statement, _ = STATEMENTS[self.args.what]
        if statement == "driver":
            self.db.connection().exec_driver_sql("INSERT INTO things (id, name) VALUES (1, 'again')")
            return
        self.db.execute(text(statement), {"value": SECRET} if ":value" in statement else {})


def db(session: Session) -> Session:
    return session


@pytest.fixture
def putting(url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    source = "from tests.adapters.http.test_database_errors import Put as Base\n\n\nclass Put(Base):\n    '''Puts.'''\n"
    write_package(tmp_path, "putting", put=source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Bus(Application("putting", actions=["putting"], dependencies={"db": db}), url) as bus:
        bus.journal.create()
        with bus.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE things (id integer PRIMARY KEY CHECK (id > 0), name varchar(100) NOT NULL)"
            )
            connection.exec_driver_sql("INSERT INTO things VALUES (1, 'one')")
        bus.services.broker = HeldBroker()
        app = Flask("putting")
        app.extensions["the bus"] = bus
        ActionBus(app, bus=bus)
        yield app.test_client()
    for name in [name for name in sys.modules if name.split(".")[0] == "putting"]:
        del sys.modules[name]


@pytest.mark.parametrize("what", STATEMENTS)
def test_what_the_database_refuses_a_handler_is_its_actions_failure(
    putting: FlaskClient, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    bus: Bus = putting.application.extensions["the bus"]
    first = putting.post("/actions/put", json={"what": what}, headers={"Idempotency-Key": "k"})
    assert first.status_code == STATEMENTS[what][1], first.text
    assert "Retry-After" not in first.headers
    assert SECRET not in first.text
    told = first.get_json()
    outcome = bus.journal.get(UUID(told["action_id"]))
    assert outcome is not None
    assert (outcome.kind, outcome.status) == ("outcome", "failed")
    if told["status"] == 500:
        causes = [record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]
        assert causes, "the log has the cause"
    again = putting.post("/actions/put", json={"what": what}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()) == (first.status_code, told)
    queued = putting.post(
        "/actions/put", json={"what": what}, headers={"Idempotency-Key": "k", "Prefer": "respond-async"}
    )
    assert (queued.status_code, queued.get_json()) == (first.status_code, told)
    seen = putting.get(f"/actions/{told['action_id']}")
    assert seen.get_json()["outcome"]["error"]["status"] == first.status_code
    assert SECRET not in seen.text


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_race_for_a_name_is_a_conflict_not_an_outage(web: Web) -> None:
    """SQLite runs one action at a time, so there is no race."""
    clients = [web.as_("ana") for _ in range(6)]
    seen: list[int] = []

    def create(client: FlaskClient, gate: threading.Barrier) -> None:
        gate.wait(30)
        response = client.post("/actions/create_kit", json={"name": name})
        assert response.get_json()["action_id"]
        seen.append(response.status_code)

    for round_ in range(6):
        name, gate = f"kit {round_}", threading.Barrier(len(clients))
        threads = [threading.Thread(target=create, args=[client, gate]) for client in clients]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert set(seen) <= {200, 409, 422}
    assert seen.count(200) == 6


@pytest.mark.parametrize("lacking", ["everything", "the journal", "api_tokens"])
def test_a_database_that_was_not_set_up_is_told_with_what_to_do(
    web: Web, lacking: str, caplog: pytest.LogCaptureFixture
) -> None:
    ana, bus = web.as_("ana"), web.bus
    if lacking != "api_tokens":
        web.app.extensions["actionbus"].authenticate = lambda request: "ana"
    cascade = "CASCADE" if bus.engine.dialect.name == "postgresql" else ""
    dropped = {"everything": ["api_tokens", "journal"], "the journal": ["journal"], "api_tokens": ["api_tokens"]}[
        lacking
    ]
    with bus.engine.begin() as connection:
        for table in dropped:
            connection.exec_driver_sql(f"DROP TABLE {table} {cascade}")
    for response in (
        ana.post("/actions/create_kit", json={"name": "a"}),
        ana.get("/actions/01a20fd2-903b-7a1d-bbbd-39d8807135d3"),
    ):
        assert response.status_code == 500
        assert "actionbus db upgrade" in response.get_json()["detail"]
        assert "Retry-After" not in response.headers
    ready = ana.get("/health/ready")
    if lacking == "api_tokens":
        assert ready.status_code == 200
    else:
        assert (ready.status_code, "actionbus db upgrade" in ready.get_json()["detail"]) == (503, True)
    assert any(record.exc_info for record in caplog.records)


def test_a_database_that_is_gone_is_503_wherever_it_is_missed(tmp_path: Path, server: Server) -> None:
    """A real PostgreSQL, at an address where nothing listens, and one that kills the connection in the middle."""
    from tests.servers import free_port
    from tests.shop.app import make_application

    gone = make_url(f"postgresql+psycopg2://nobody@127.0.0.1:{free_port()}/none?connect_timeout=5")
    with Bus(make_application(), gone) as bus:
        app = Flask("gone")
        ActionBus(app, bus=bus)
        client = app.test_client()
        for response in (
            client.post("/actions/deposit", json={}),
            client.get("/actions/01a20fd2-903b-7a1d-bbbd-39d8807135d3"),
            client.get("/health/ready"),
        ):
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "nobody" not in response.text


def test_a_connection_that_is_killed_in_a_handler_is_503_with_the_actions_id(
    postgres_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(
        tmp_path,
        "dying",
        die=(
            "from actionbus import ActionHandler\n\n\nclass Die(ActionHandler):\n    '''Dies.'''\n\n    requires = ('db',)\n\n"
            "    def execute(self):\n        from sqlalchemy import text\n"
            "        self.db.execute(text('SELECT pg_terminate_backend(pg_backend_pid())'))\n"
        ),
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Bus(Application("dying", actions=["dying"], dependencies={"db": db}), postgres_url) as bus:
        bus.journal.create()
        app = Flask("dying")
        ActionBus(app, bus=bus)
        response = app.test_client().post("/actions/die", json={})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        outcome = bus.journal.get(UUID(response.get_json()["action_id"]))
        assert outcome is not None
        assert outcome.status == "failed"
    del sys.modules["dying"], sys.modules["dying.die"]


def test_what_is_no_lost_connection() -> None:
    class Failing(Exception):
        def __init__(self, **codes: str) -> None:
            self.__dict__.update(codes)

    def told(**codes: str) -> bool:
        return is_lost(OperationalError("SELECT", {}, Failing(**codes)))

    assert not told(sqlite_errorname="SQLITE_ERROR")
    assert not told(pgcode="40001")
    assert not is_lost(Misuse("no"))
    assert told(sqlite_errorname="SQLITE_BUSY")
    assert told(pgcode="57P01")
    assert told(pgcode="53300")
    assert told()
