"""What several test modules do to the shop, the command line and the clock of the queue."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from sqlalchemy import insert, text
from sqlalchemy.engine import URL

from actionbus import Bus
from actionbus.core.storage.table import journal_table
from tests import processes

ROOT = Path(__file__).parents[1]
TOOL = [sys.executable, "-m", "actionbus"]
Run = Callable[..., "Done"]


@dataclass
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


def write_package(folder: Path, name: str, **sources: str) -> None:
    """Write a package of modules, by file name, into a folder from which it can be imported."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    for file, source in sources.items():
        (package / f"{file}.py").write_text(source)


def run_pytest(path: Path) -> int:
    """Run an exported test, or a folder of them, in a process of its own; the exit code."""
    options = ["-q", "-p", "no:cacheprovider", "--assert=plain", str(path), "-c", f"{ROOT}/pyproject.toml"]
    return processes.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, capture_output=True).returncode


def opened(bus: Bus, *ids: int) -> Bus:
    """The bus, after accounts were opened."""
    for each in ids:
        bus.execute("open_account", {"id": each, "name": f"account {each}"}, actor="ann")
    return bus


def abandon(bus: Bus, **columns: Any) -> Any:
    """A submitted record whose process is gone."""
    action_id = uuid4()
    row = {
        "action_id": action_id,
        "kind": "submitted",
        "action": "deposit",
        "correlation_id": "c",
        "format": 1,
        "recorded_at": datetime.now(UTC) - timedelta(hours=1),
        **columns,
    }
    with bus.engine.begin() as connection:
        connection.execute(insert(journal_table()).values(**row))
    return action_id


def balance(bus: Bus, account: int = 1) -> int:
    """What is on an account."""
    with bus.engine.connect() as connection:
        found = connection.execute(text("SELECT balance FROM accounts WHERE id = :id"), {"id": account})
        return int(found.scalar_one())


def let_time_pass(bus: Bus, seconds: float) -> None:
    """Set all times of queued actions back, which is as if the clock had gone on."""
    columns = ("queued_at", "due_at", "ordered_at", "publish_at", "claimed_at")
    earlier = ", ".join(f"{column} = {column} - :seconds" for column in columns)
    with bus.engine.begin() as connection:
        connection.execute(text(f"UPDATE {bus.backend.prefix}actionbus_runs SET {earlier}"), {"seconds": seconds})


def subcommands(command: click.Command) -> dict[str, click.Command]:
    """The commands of a group, those that are imported when asked for included; none of any other command."""
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: each for name, each in found.items() if each is not None}


def environment(url: URL) -> dict[str, str]:
    """For commands on the shop in this database."""
    return os.environ | {
        "ACTIONBUS_APP": "tests.adapters.shop_app:app",
        "ACTIONBUS_DATABASE_URL": url.render_as_string(hide_password=False),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "160",
    }


def documents(done: Done) -> list[Any]:
    """The JSON lines that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]
