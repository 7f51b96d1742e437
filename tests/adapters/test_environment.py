"""Settings of the environment, of Flask and of the command line: unknown ones are told of, and who makes calls is one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.adapters import settings, unknown_settings, wiring
from actionbus.adapters.unknown_settings import tell_unknown
from actionbus.core.queueing.worker import Worker
from actionbus.flask import ActionBus, current_bus
from tests.conftest import prepared
from tests.core.after_commit import till as tills
from tests.core.after_commit.till import Till
from tests.helpers import Run
from tests.shop.actions.call_back import CallBack

LEFT = "ACTIONBUS_LEAVE_CALLS_TO_WORKERS"
MISTYPED = {"DATABSE_URL": "DATABASE_URL", "BROKER": "BROKER_URL", "DB_SCHEMA": "SCHEMA", "ATTEMPT": "ATTEMPTS"}


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_settings, "_told", set())


@pytest.mark.parametrize(("name", "near"), MISTYPED.items())
def test_a_mistyped_variable_is_told_of_once_with_the_nearest(name: str, near: str) -> None:
    (told,) = tell_unknown(["PATH", f"ACTIONBUS_{name}"])
    assert told == f"ACTIONBUS_{name} is no setting, and nothing reads it; did you mean ACTIONBUS_{near}?"
    assert tell_unknown([f"ACTIONBUS_{name}"]) == []


def test_every_setting_is_known_and_so_is_what_kubernetes_sets() -> None:
    known = [f"ACTIONBUS_{each.name}" for each in settings.SETTINGS]
    of_services = (
        "SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTP PORT PORT_80_TCP PORT_80_TCP_ADDR WEB_SERVICE_HOST WEB_PORT"
    )
    assert tell_unknown([*known, *(f"ACTIONBUS_{each}" for each in of_services.split())]) == []
    (told,) = tell_unknown([f"ACTIONBUS_{'ZZZ'}"])
    assert told.endswith("docs/settings.md has those there are")


def test_the_command_line_says_so_and_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACTIONBUS_{'ACTR'}", "ana")
    monkeypatch.setenv(f"ACTIONBUS_{'SECRT'}", "swordfish")
    done = run("log", "--json")
    assert re.search(r"note: \w+_ACTR is no setting.* did you mean ACTIONBUS_ACTOR\?", done.stderr)
    assert "swordfish" not in done.stderr
    assert done.stdout == ""


def test_so_does_flask_of_its_configuration(
    url: URL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"ACTIONBUS_{'ATTEMPT'}", "3")
    with (
        caplog.at_level(logging.WARNING, logger="actionbus"),
        closing(_flask(url, **{f"ACTIONBUS_{'INSPECTER'}": True})),
    ):
        pass
    told = "\n".join(caplog.messages)
    assert "did you mean ACTIONBUS_ATTEMPTS?" in told
    assert "did you mean ACTIONBUS_INSPECTOR?" in told


@pytest.fixture
def charging(url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[URL]:
    """A database and an application, `call_back` of which postpones a call."""

    def charge(handler: Any) -> None:
        handler.mailer.charge(5)

    prepared(url)
    monkeypatch.setattr(CallBack, "function", charge)
    monkeypatch.setattr(tills, "app", tills.application(), raising=False)
    Till.empty()
    yield url
    Till.empty()


def _flask(url: URL, **config: Any) -> Bus:
    app = Flask("till")
    app.config.update(ACTIONBUS_DATABASE_URL=url, ACTIONBUS_API=False, **config)
    ActionBus(app, application=tills.application())
    with app.app_context():
        return current_bus()


@pytest.mark.parametrize(
    ("said", "option", "asked"),
    [("", [], 1), ("true", [], 0), ("0", [], 1), ("", ["--leave-calls-to-workers"], 0)],
)
def test_on_the_command_line_workers_make_the_calls_if_it_says_so(
    charging: URL, run: Run, monkeypatch: pytest.MonkeyPatch, said: str, option: list[str], asked: int
) -> None:
    monkeypatch.setenv("ACTIONBUS_APP", "tests.core.after_commit.till:app")
    monkeypatch.setenv(LEFT, said)
    run(*option, "run", "call_back")
    assert len(Till.asked) == asked
    with closing(wiring.bus_for(tills.application(), charging)) as bus:
        Worker(bus).run_due()
    assert len(Till.asked) == 1


@pytest.mark.parametrize(
    ("variable", "config", "left"),
    [
        ("", {}, False),
        ("yes", {}, True),
        ("yes", {LEFT: False}, False),
        ("", {LEFT: True}, True),
        ("", {LEFT: "1"}, True),
    ],
)
def test_in_flask_its_configuration_comes_before_the_environment(
    charging: URL, monkeypatch: pytest.MonkeyPatch, variable: str, config: dict[str, Any], left: bool
) -> None:
    monkeypatch.setenv(LEFT, variable)
    with closing(_flask(charging, **config)) as bus:
        bus.execute("call_back")
        assert len(Till.asked) == (0 if left else 1)


def test_what_is_neither_true_nor_false_is_refused(charging: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEFT, "maybe")
    with pytest.raises(
        settings.BadSetting, match="ACTIONBUS_LEAVE_CALLS_TO_WORKERS must be true or false, not 'maybe'"
    ):
        wiring.bus_for(tills.application(), "sqlite://")
