"""Fixture: one action as a test has it, with the rows, the outside calls, the clock and the seed that it had.

`export-test` writes tests that use it; it stands on a sandbox in memory, so nothing else is needed to run them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actionbus.core import Application, Record
from actionbus.core.gateway.outside_calls import asked_of
from actionbus.core.values import payload, tagged
from actionbus.replay.past.history import Entry
from actionbus.replay.past.nets import RowChange, changes_of
from actionbus.replay.sandbox.sandbox import Sandbox

_ACTION_ID = UUID("00000000-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True)
class ReplayedAction:
    """What came of the action."""

    status: str
    result: Any
    error: dict[str, Any] | None
    changes: list[str]
    """The rows changed, a line each, such as `update kits 5: name 'a' → 'b'`."""
    calls: list[dict[str, Any]]
    """What it asked of outside dependencies."""


class Fixture:
    """A state, and an action to run on it. `database` is SQLite in memory unless the test needs another dialect."""

    def __init__(
        self,
        application: Application,
        *,
        started_at: str = "2000-01-01T00:00:00+00:00",
        seed: str = "0" * 32,
        database: str = "sqlite://",
    ) -> None:
        self._started_at = datetime.fromisoformat(started_at)
        self._seed = seed
        self._sandbox = Sandbox(application, database)
        self._calls: list[dict[str, Any]] = []
        self._generated: dict[str, list[dict[str, Any]]] = {}

    def rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows into a table; values as tagged JSON has them."""
        self._sandbox.insert(table, rows)

    def call(self, name: str, *args: Any, **ended: Any) -> None:
        """A recorded outside call: `kwargs`, and how it ended: `returned`, `raised`, `items` or `context`."""
        self._calls.append({"call": name, "args": list(args), **ended})

    def generated(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that the action had inserted, from which keys and what else was generated is taken: `table`, `row`."""
        for told in rows:
            name = self._sandbox.tables.name_of(self._sandbox.model(told["table"]))
            decoded = {column: tagged.decode(value) for column, value in told["row"].items()}
            self._generated.setdefault(name, []).append(decoded)

    def run(
        self,
        action: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        actor: str | None = None,
        context: Mapping[str, Any] | None = None,
        version: int | None = None,
    ) -> ReplayedAction:
        """Run the action; nothing is raised, and nothing leaves the process."""
        entry = self._entry(action, dict(arguments or {}), actor, dict(context) if context else None, version)
        rerun = self._sandbox.run(entry, generated=self._generated)
        changes = changes_of(rerun.nets)
        self._sandbox.drop(rerun)
        row = rerun.outcome
        error = payload.loads(row.error) if row.error else None
        if error:
            error.pop("traceback", None)
        self._sandbox.close()
        calls = payload.loads(row.calls) if row.calls else []
        asked = [asked_of(call) for call in calls]
        result = payload.loads(row.result) if row.result is not None else None
        return ReplayedAction(row.status or "", result, error, [line(change) for change in changes], asked)

    def _entry(
        self,
        action: str,
        arguments: dict[str, Any],
        actor: str | None,
        context: dict[str, Any] | None,
        version: int | None,
    ) -> Entry:
        submitted = Record(
            0,
            _ACTION_ID,
            "submitted",
            None,
            action,
            version,
            actor,
            str(_ACTION_ID),
            None,
            None,
            self._started_at,
            None,
            None,
            context,
            arguments,
            None,
            None,
            None,
            self._seed,
            None,
            None,
            None,
            1,
        )
        outcome = submitted.replaced(
            position=1,
            kind="outcome",
            status="succeeded",
            started_at=self._started_at,
            calls=self._calls,
        )
        return Entry(submitted, outcome)


def line(change: RowChange) -> str:
    """A row change as one line of text."""
    key = ",".join(str(part) for part in change.key)
    if change.operation == "delete":
        return f"delete {change.table} {key}"
    told = ", ".join(
        f"{name} {_value(after)}" if change.before is None else f"{name} {_value(before)} → {_value(after)}"
        for name, (before, after) in change.columns().items()
    )
    return f"{change.operation} {change.table} {key}: {told}"


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        value = value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    elif isinstance(value, UUID):
        value = str(value)
    return repr(value)
