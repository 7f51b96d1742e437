"""API tokens of the reference application: issued by operators alone, listed and revoked by id, never of a weak form."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, InvalidArguments, PermissionDenied
from actionbus.adapters.library.app import library
from actionbus.adapters.library.tokens import authenticator, digest_of, id_of, issue, listed, revoke
from actionbus.adapters.wiring import bus_for
from tests import processes
from tests.adapters.library_tables import prepared_library
from tests.helpers import TOOL


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    prepared_library(url)
    with bus_for(library, url) as found:
        yield found


class Sent:
    """A request with a token."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}


def test_a_holder_cannot_prolong_his_own(bus: Bus) -> None:
    issue(bus, "ana", days=1)
    for actor in ("ana", "bob", None, "operator", "Operator:x"):
        for expires in (timedelta(minutes=1), timedelta(days=3000)):
            arguments = {"holder": "ana", "digest": "a" * 64, "expires_at": datetime.now(UTC) + expires}
            with pytest.raises(PermissionDenied):
                bus.execute("add_token", arguments, actor=actor)
    assert len(listed(bus)) == 1


@pytest.mark.parametrize("holder", ["", "operator:root", "a\nb", "x" * 201, "\u202eabc"])
def test_a_name_that_nobody_can_have_gets_no_token(bus: Bus, holder: str) -> None:
    with pytest.raises(InvalidArguments, match="holder"):
        issue(bus, holder)


@pytest.mark.parametrize("weak", ["abt_mine", "abt_", "", "mine", "abt_" + "a" * 42, "abt_" + "a" * 44, "x" * 47])
def test_a_token_that_somebody_thought_up_is_not_accepted(bus: Bus, weak: str) -> None:
    arguments = {
        "holder": "ana",
        "digest": hashlib.sha256(weak.encode()).hexdigest(),
        "expires_at": datetime.now(UTC) + timedelta(days=1),
    }
    bus.execute("add_token", arguments, actor="operator:tests")
    assert authenticator(bus)(Sent(weak)) is None


def test_nobody_comes_in_as_an_operator(bus: Bus) -> None:
    token = issue(bus, "ana")
    with bus.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE api_tokens SET actor = 'operator:root'")
    assert authenticator(bus)(Sent(token)) is None


def test_what_is_listed_is_revoked_by_its_id_and_lets_nobody_in(bus: Bus) -> None:
    first, second = issue(bus, "ana", label="laptop"), issue(bus, "ana", days=2)
    issue(bus, "bob")
    told = listed(bus, "ana")
    assert [each["token_id"] for each in told] == [id_of(bus, first), id_of(bus, second)]
    assert not {first, second, digest_of(first)} & {str(value) for each in told for value in each.values()}
    revoke(bus, id_of(bus, first))
    assert authenticator(bus)(Sent(first)) is None
    assert authenticator(bus)(Sent(second)) == "ana"
    with pytest.raises(InvalidArguments, match="no such token"):
        revoke(bus, UUID(int=7))


def tool(url: URL, *arguments: str, **env: str) -> Any:
    shown = url.render_as_string(hide_password=False)
    more = (
        os.environ
        | {"ACTIONBUS_DATABASE_URL": shown, "ACTIONBUS_ELASTICSEARCH_URL": "embedded", "COLUMNS": "200"}
        | env
    )
    return processes.run([*TOOL, *arguments], env=more, capture_output=True, text=True, check=False)


def test_the_command_group(bus: Bus, url: URL) -> None:
    made = tool(url, "token", "add", "ana", "--days", "3", "--label", "laptop")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert authenticator(bus)(Sent(token)) == "ana"
    token_id = str(id_of(bus, token))
    assert token_id in made.stderr
    as_json = json.loads(tool(url, "token", "add", "bob", "--json").stdout)
    assert UUID(as_json["token_id"]) == id_of(bus, as_json["token"])
    shown = tool(url, "token", "list")
    assert token_id in shown.stdout
    assert "laptop" in shown.stdout
    assert token not in shown.stdout
    only = [json.loads(line) for line in tool(url, "token", "list", "--actor", "bob", "--json").stdout.splitlines()]
    assert [each["actor"] for each in only] == ["bob"]
    assert tool(url, "token", "revoke", token_id).returncode == 0
    assert authenticator(bus)(Sent(token)) is None
    again = tool(url, "token", "revoke", token_id)
    assert (again.returncode, "no such token" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["token", "add", "ana", "--days", "0"], {}, "--days"),
        (["token", "add", "ana", "--days", "99999"], {}, "--days"),
        (["token", "add", ""], {}, "holder"),
        (["token", "add", "operator:root"], {}, "holder"),
        (["token", "revoke", "nonsense"], {}, "UUID"),
        (["token", "add", "ana"], {"ACTIONBUS_DATABASE_URL": "sqlite:///{folder}/empty.db"}, "actionbus db upgrade"),
        (["token", "list"], {"ACTIONBUS_DATABASE_URL": "sqlite:///{folder}/empty.db"}, "actionbus db upgrade"),
        (["token", "list"], {"ACTIONBUS_APP": "tests.adapters.shop_app:app"}, "reference application"),
    ],
    ids=str,
)
def test_a_mistake_at_the_command_line_is_told_in_a_sentence(
    bus: Bus, url: URL, tmp_path: Path, arguments: list[str], env: dict[str, str], said: str
) -> None:
    done = tool(url, *arguments, **{name: value.format(folder=tmp_path) for name, value in env.items()})
    assert done.returncode in (1, 2, 5)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_tokens_of_a_journal_in_a_schema(postgres_url: URL) -> None:
    assert tool(postgres_url, "--schema", "audit", "db", "upgrade", "--models").returncode == 0
    made = tool(postgres_url, "--schema", "audit", "token", "add", "ana")
    assert made.returncode == 0, made.stderr
    with bus_for(library, postgres_url, schema="audit") as bus:
        assert authenticator(bus)(Sent(made.stdout.strip())) == "ana"
