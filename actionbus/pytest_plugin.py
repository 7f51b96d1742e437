"""The pytest plugin: fixtures for tests of an application. Loaded by pytest itself, where actionbus is installed.

Say which application in `pyproject.toml`:

    [tool.pytest.ini_options]
    actionbus_app = "shop.app:app"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from actionbus.adapters.testing import Given, HeldBroker
    from actionbus.core import Application, Bus, Outcome

# What is used is imported by the fixtures, so that test runs which need none of it do not pay for it.


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings."""
    parser.addini("actionbus_app", "The application under test, module:attribute.")
    parser.addini(
        "actionbus_database", "A PostgreSQL server's URL, on which each test gets a new database; SQLite if left out."
    )


@pytest.fixture
def actionbus_application(pytestconfig: pytest.Config) -> Application:
    """The application under test. Override it to test another declaration."""
    from actionbus.adapters.wiring import load_application

    path = str(pytestconfig.getini("actionbus_app"))
    if not path:
        raise pytest.UsageError('set actionbus_app = "module:attribute" in [tool.pytest.ini_options]')
    try:
        return load_application(path)
    except ValueError as error:
        raise pytest.UsageError(f"actionbus_app: {error}") from None


@pytest.fixture
def actionbus_database(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[str]:
    """The URL of a new, empty database, gone after the test."""
    server = str(pytestconfig.getini("actionbus_database"))
    if not server:
        yield f"sqlite:///{tmp_path / 'actionbus.db'}"
        return
    from sqlalchemy import create_engine, make_url, text

    name = f"actionbus_test_{uuid4().hex[:12]}"
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield engine.url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def action_queue() -> HeldBroker:
    """The broker of `action_bus`: it keeps messages until the test lets them be run."""
    from actionbus.adapters.testing import HeldBroker

    return HeldBroker()


@pytest.fixture
def action_bus(actionbus_application: Application, actionbus_database: str, action_queue: HeldBroker) -> Iterator[Bus]:
    """The application on a throwaway database, with its tables and a journal.

    A table that is there already, as where migrations made it, and whose rows are not recorded, is refused.
    What reaches out and is not declared `outside`, such as a socket opened by a repo, fails the action and is named: in
    a replay it would.
    """
    from actionbus.adapters.testing import require_recorded
    from actionbus.adapters.testing.guarding import Guarding
    from actionbus.core import Bus

    guarding = Guarding()
    with Bus(actionbus_application, actionbus_database, broker=action_queue, middleware=[guarding]) as bus:
        guarding.engine = bus.engine
        bus.journal.create()
        if actionbus_application.models is not None:
            actionbus_application.models.create_all(bus.engine)
        require_recorded(bus)
        yield bus


@pytest.fixture
def fakes() -> dict[str, Any]:
    """Objects in place of dependencies, by name: `fakes["mailer"] = FakeMailer()`."""
    return {}


@pytest.fixture
def given(action_bus: Bus, fakes: dict[str, Any]) -> Given:
    """`given(("create_kit", {...})).when("add_asset", {...}).then(status="rejected", errors={...})`."""
    from actionbus.adapters.testing import Given

    return Given(action_bus, fakes)


@pytest.fixture
def run_queued(action_bus: Bus, action_queue: HeldBroker, fakes: dict[str, Any]) -> Callable[[], list[Outcome]]:
    """Call it to run what was queued, and make the calls that were postponed, as a worker would; the outcomes."""
    return lambda: action_queue.run(action_bus, fakes)


@pytest.fixture
def project(action_bus: Bus) -> Callable[..., Any]:
    """Call it to bring the projections up to date; with a projection and a key, it gives that document."""
    from actionbus.adapters.embedded import EmbeddedStore
    from actionbus.projections import Projector

    store = EmbeddedStore(action_bus.engine)

    def bring_up_to_date(projection: str | None = None, key: object = None) -> Any:
        Projector(action_bus, store).catch_up()
        return store.get(projection, str(key)) if projection is not None else None

    return bring_up_to_date
