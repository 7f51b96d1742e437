"""`actionbus run ACTION --preview` and `actionbus revert ACTION`, as a user meets them."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus
from tests.conftest import query
from tests.helpers import Run, documents
from tests.shop.app import make_application


@pytest.fixture
def cli(run: Run, url: URL) -> Run:
    """On a shop that is recorded, with one account."""
    with Bus(make_application(), url) as bus:
        bus.create()
        bus.execute("open_account", {"id": 1, "name": "one"})
    return run


def test_it_shows_rows_and_keeps_nothing(cli: Run, url: URL) -> None:
    before = query(url, "SELECT count(*) FROM journal")
    done = cli("run", "deposit", "--id", "1", "--amount", "5", "--preview")
    assert "preview: deposit would have succeeded; it was rolled back" in done.stdout
    assert "balance: 0 → 5" in done.stdout
    (told,) = documents(cli("run", "deposit", "--id", "1", "--amount", "5", "--preview", "--json"))
    assert (told["preview"], told["status"], told["result"]) == (True, "succeeded", {"balance": 5})
    assert sorted(each["operation"] for each in told["changes"]) == ["insert", "update"]
    assert query(url, "SELECT count(*) FROM journal") == before


def test_its_exit_code_is_that_of_the_action(cli: Run) -> None:
    assert "no such account" in cli("run", "deposit", "--id", "7", "--preview", code=3).stdout
    assert "ArithmeticError" in cli("run", "withdraw", "--id", "1", "--amount", "5", "--preview", code=1).stdout
    refused = cli("run", "notify", "--to", "bo", "--preview", code=1)
    assert "the outside world, which a preview does not: mailer.send(…)" in refused.stderr
    (told,) = documents(cli("run", "notify", "--to", "bo", "--preview", "--json", code=1))
    assert told["refused"] == ["mailer.send(…)"]
    assert "traceback" not in told["error"]


@pytest.mark.parametrize("also", [("--async",), ("--idempotency-key", "k"), ("--arguments", "-")])
def test_it_goes_with_nothing_that_keeps(cli: Run, also: tuple[str, ...]) -> None:
    assert "--preview" in cli("run", "deposit", "--id", "1", "--preview", *also, code=2).stderr


def test_revert_puts_back_or_names_what_is_in_the_way(cli: Run, url: URL) -> None:
    (done,) = documents(cli("run", "deposit", "--id", "1", "--amount", "5", "--json"))
    reverted = cli("revert", done["action_id"], "--actor", "ann")
    assert "deposit is reverted: " in reverted.stdout
    assert query(url, "SELECT balance FROM accounts") == [(0,)]
    refused = cli("revert", done["action_id"], code=3)
    assert "rejected; nothing was changed" in refused.stderr
    assert "accounts[1].balance: was 5, now 0" in refused.stderr
    (told,) = documents(cli("revert", done["action_id"], "--json", code=3))
    assert {(each["table"], each["column"]) for each in told["conflicts"]} == {
        ("accounts", "balance"),
        ("entries", None),
    }
    assert (
        "there is no outcome of such an action" in cli("revert", "0b0e6a1e-7f3c-4c6d-9d0e-111111111111", code=3).stderr
    )
