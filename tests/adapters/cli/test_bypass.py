"""The log of what was written past the gateway."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.core.history.capturing import Captured
from tests.helpers import Run, documents
from tests.shop.app import make_application


@pytest.fixture
def url(postgres_url: URL) -> URL:
    """PostgreSQL alone."""
    return postgres_url


def test_the_log_names_who_wrote_past_the_gateway(url: URL, run: Run) -> None:
    with Bus(make_application(), url) as bus:
        captured = Captured(bus)
        captured.install("accounts")
        captured.run(
            "SET LOCAL application_name = 'psql'", "INSERT INTO accounts (id, name, balance) VALUES (1, 'x', 5)"
        )
    run("run", "deposit", "--id", "1", "--amount", "7")
    lines = run("log").stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["bypass", "bypass", "succeeded"]
    assert "application=psql" in lines[1]
    assert "user=" in lines[1]
    told = documents(run("log", "--bypass", "--json"))
    assert [each["kind"] for each in told] == ["bypass", "bypass"]
    assert '"application": "psql"' in run("show", told[1]["action_id"]).stdout.replace('":"', '": "')
