"""Every link of every page leads somewhere, on each database; and the command that serves them all."""

from __future__ import annotations

import html
import http.client
import os
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters.embedded import EmbeddedStore
from actionbus.adapters.inspector.door import Door
from actionbus.adapters.inspector.mounting import app_behind
from actionbus.core.history.install import install
from actionbus.core.history.shapes import TableWanted
from actionbus.projections import Projector
from tests import processes
from tests.adapters.inspector.inn.app import inn
from tests.adapters.inspector.inn.story import tell
from tests.adapters.inspector.looking import OTHERS, PAGES
from tests.helpers import TOOL
from tests.replay.archives.history import archived
from tests.waiting import PATIENCE_S, eventually


def test_every_link_leads_to_a_page(url: URL) -> None:
    with Bus(inn, url) as bus:
        bus.create()
        with bus.engine.begin() as connection:
            connection.execute(text("CREATE TABLE visits (who TEXT)"))
            install(bus.backend, connection, [TableWanted("visits")])
        tell(bus)
        with bus.engine.begin() as connection:
            connection.execute(text("INSERT INTO visits VALUES ('Una'), ('Una')"))
        bus.execute("reserve", {"id": "r-hal", "guest": "Hal"}, actor="clerk")
        seen = bus.journal.last()
        door = Door(bus)
        client = app_behind(door, bus, "embedded").test_client()
        client.get(f"/enter?token={door.token}")
        first = [*PAGES.values(), *OTHERS[:-1], "/table?table=visits", f"/diff?a={seen - 3}", f"/diff?a={seen}&b=20"]
        first += [f"/actions/{each.position}" for each in bus.journal.read(kind="bypass")]
        pages = {path: client.get(path, follow_redirects=True) for path in first}
        assert {path: answer.status_code for path, answer in pages.items() if answer.status_code != 200} == {}
        links = {
            html.unescape(each) for answer in pages.values() for each in re.findall(r'href="(/[^"]*)"', answer.text)
        }
        kinds = {re.sub(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27}|=[^&]*", "…", each): each for each in sorted(links)}
        assert len(kinds) > 30
        assert {each: code for each in kinds.values() if (code := client.get(each).status_code) not in (200, 303)} == {}
        walked = client.get("/origin?table=reservations&key=r-dora&column=price").text
        assert "which was run by" in walked
        assert "import_prices" in walked
        assert client.get("/table?table=visits").text.count("Una") == 2, "a table without a key is shown too"
        assert "between <bdi>24</bdi> and <bdi>12</bdi>" in client.get("/diff?a=24&b=12").text
        mistyped = client.get("/?acton=reserve")
        assert mistyped.status_code == 400, "a filter that is mistyped would show everything"
        nowhere = client.get("/origin?table=reservations&key=r-dora&column=prize")
        assert nowhere.status_code == 404
        assert "has no column &#39;prize&#39;" in nowhere.text
        assert "1 row of" in client.get("/table?table=reservations&text=Dora").text


def test_what_is_archived_is_told_to_be_so_and_nobody_else_is_named_for_it(url: URL, tmp_path: Path) -> None:
    with Bus(inn, url) as bus:
        bus.create()
        tell(bus)
        Projector(bus, EmbeddedStore(bus.engine)).catch_up()
        cut = next(bus.journal.read(action="import_prices")).position
        archived(bus, cut, tmp_path / "old")
        door = Door(bus)
        client = app_behind(door, bus, "embedded").test_client()
        client.get(f"/enter?token={door.token}")
        at = bus.journal.begins.position()
        for path in ("/?cursor=o3", "/?until=2000-01-01", "/actions/3"):
            assert f"istory before position {at} is archived" in client.get(path).text, path
        origin = client.get("/origin?table=reservations&key=r-fay&column=price").text
        assert "archive_history" in origin.partition("Its values")[0]
        assert "import_prices" not in origin
        (keeper,) = bus.journal.read(action="archive_history", kind="outcome")
        row = client.get("/row?table=reservations&key=r-fay").text
        assert f"/actions/{keeper.action_id}" in row
        assert f"/actions/{at}" not in row


@pytest.fixture
def inn_url(sqlite_url: URL) -> URL:
    with Bus(inn, sqlite_url) as bus:
        bus.create()
        tell(bus)
    return sqlite_url


def test_the_command_serves_this_machine_alone_and_opens_what_it_prints(inn_url: URL, tmp_path: Path) -> None:
    opened, log = tmp_path / "opened", tmp_path / "log"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part\nmv {opened}.part {opened}\n')
    browser.chmod(0o755)
    env = os.environ | {
        "ACTIONBUS_APP": "tests.adapters.inspector.inn.app:inn",
        "ACTIONBUS_ELASTICSEARCH_URL": "embedded",
        "ACTIONBUS_DATABASE_URL": inn_url.render_as_string(hide_password=False),
        "BROWSER": str(browser),
    }
    with log.open("wb") as out:
        process = processes.Popen([*TOOL, "inspect", "--open"], env=env, stdout=out, stderr=out)
    try:
        told = eventually(lambda: re.search(r"inspecting at (http://\S+)", log.read_text()), log.read_text)
        eventually(opened.exists, log.read_text)
        assert opened.read_text().strip() == told[1]
        where = urlsplit(told[1])
        assert where.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=PATIENCE_S)
        codes = []
        for path in ("/", f"{where.path}?{where.query}", f"{where.path}?{where.query}"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            codes.append(answer.status)
        assert codes == [401, 303, 401]
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert where.query not in log.read_text().replace(told[0], ""), "the token is in no log"
    finally:
        process.kill()
        process.wait()
