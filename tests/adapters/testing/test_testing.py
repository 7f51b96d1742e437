"""The testing kit, used as an application's tests use it, and told wrong things."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Application, Bus, ConfigurationError, PermissionDenied
from actionbus.adapters.library.app import library
from actionbus.replay import LeavesSandbox
from actionbus.testing import Given, require_recorded
from tests.conftest import prepared
from tests.shop.actions.call_back import CallBack
from tests.shop.app import Mailer, Repo, make_application


@pytest.fixture
def actionbus_application() -> Application:
    return make_application()


ACCOUNT = ("open_account", {"id": 1, "name": "one"})


def test_given_when_then(given: Given) -> None:
    given(ACCOUNT).when("deposit", {"id": 1, "amount": 5}).then(result={"balance": 5})
    given().when("open_account", {"id": 1, "name": "two"}).then(
        status="rejected", errors={"id": ["there is such an account"]}
    )
    given(actor="mallory").when("open_account", {"id": 2, "name": "m"}).then(status="denied", raises=PermissionDenied)
    given().when("withdraw", {"id": 1, "amount": 50}).then(status="failed", raises=ArithmeticError)


def test_results_go_on(given: Given) -> None:
    given(
        ACCOUNT,
        ("deposit", lambda done: {"id": done[0]["id"], "amount": 2}),
        ("deposit", {"id": 1, "amount": 1}, "bob"),
    ).when("withdraw", lambda done: {"id": 1, "amount": done[-1]["balance"]}, actor="carol").then(result={"balance": 0})


def test_what_is_given_must_succeed(given: Given) -> None:
    with pytest.raises(AssertionError, match=r"given open_account: rejected \(InvalidArguments"):
        given(ACCOUNT, ACCOUNT)


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"status": "rejected"}, "expected rejected, got succeeded"),
        ({"result": {"balance": 6}}, "expected the result"),
        ({"errors": {"id": ...}}, "expected errors"),
        ({"raises": ValueError}, "expected ValueError"),
        ({"calls": ["mailer.send"]}, "expected calls"),
        ({"postponed": ["mailer.send"]}, "expected postponed calls"),
    ],
)
def test_it_fails_when_it_should(given: Given, expected: dict[str, Any], told: str) -> None:
    when = given(ACCOUNT).when("deposit", {"id": 1, "amount": 5})
    with pytest.raises(AssertionError, match=told):
        when.then(**expected)


def test_fakes_and_their_calls(given: Given, fakes: dict[str, Any]) -> None:
    class Post:
        def send(self, to: str, text: str) -> str:
            return f"to {to}"

    fakes["mailer"] = Post()
    given().when("notify", {"to": "eve"}).then(result={"receipt": "to eve"}, calls=["mailer.send"])


def test_a_dependency_that_reaches_out_unasked_is_named(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay would refuse it; an outside dependency may do as it likes."""
    monkeypatch.setattr(Repo, "account", lambda self, account_id: socket.create_connection(("127.0.0.1", 9), 1))
    when = given().when("deposit", {"id": 1}).then(status="failed", raises=LeavesSandbox)
    assert "test_testing.py" in str(when.error)
    assert "Declare what does as `outside(…)`" in str(when.error)

    def send(self: Mailer, to: str, text: str) -> str:
        return str(len(socket.getaddrinfo("localhost", 25)) > 0)

    monkeypatch.setattr(Mailer, "send", send)
    given().when("notify", {"to": "ann"}).then(result={"receipt": "True"})


def test_queued_actions_wait_for_the_test(given: Given, run_queued: Callable[[], list[Any]], action_bus: Bus) -> None:
    CallBack.function = lambda handler: handler.runner.execute_async("deposit", {"id": 1, "amount": 1}).action_id
    given(ACCOUNT).when("deposit", {"id": 1, "amount": 5}, queued=True).then(status="queued")
    given().when("call_back").then()
    assert [outcome.result for outcome in run_queued()] == [{"balance": 5}, {"balance": 6}]
    assert run_queued() == []


def test_the_kits_bus_records_rows(given: Given, action_bus: Bus) -> None:
    position = given(ACCOUNT).when("deposit", {"id": 1, "amount": 5}).then().record.position  # type: ignore[union-attr]
    change = action_bus.history.rows("accounts", 1).changes[-1]
    assert (change.who.source.position, change.after["balance"]) == (position, 5)  # type: ignore[union-attr,index]


class TestTablesThatAreThere:
    """As where an application's own migrations made them, which forgot to record them."""

    @pytest.fixture
    def actionbus_database(self, url: URL) -> str:
        prepared(url)
        return url.render_as_string(hide_password=False)

    def test_are_refused_by_name(self, request: pytest.FixtureRequest, actionbus_database: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            request.getfixturevalue("action_bus")
        told = str(refused.value)
        assert "accounts are not recorded: " in told
        assert "entries are not recorded: " in told
        assert "call bus.create()" in told

    def test_are_let_pass_once_they_are_recorded(self, request: pytest.FixtureRequest, actionbus_database: str) -> None:
        with Bus(make_application(), actionbus_database) as bus:
            bus.create()
        require_recorded(request.getfixturevalue("action_bus"))


class TestProjections:
    """With the reference application, which has read models."""

    @pytest.fixture
    def actionbus_application(self) -> Application:
        return library

    def test_a_projector_in_step(self, given: Given, project: Callable[..., Any]) -> None:
        kit = given(actor="ana").when("create_kit", {"name": "Icons"}).then(result={"kit_id": ...}).result
        assert project("kits", kit["kit_id"])["name"] == "Icons"
        given(actor="ana").when("rename_kit", {**kit, "name": "Signs"}).then()
        assert project("kits", kit["kit_id"])["name"] == "Signs"


def test_without_an_application_it_says_what_to_set(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(given): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*set actionbus_app = *"])


def test_from_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nactionbus_app = actionbus.adapters.library.app:library\n")
    pytester.makepyfile(
        """
        def test_it(given):
            given(actor="ana").when("create_kit", {"name": "A"}).then(result={"kit_id": ...})
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
