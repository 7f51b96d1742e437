"""Writes a pytest file out of one action of history: small, readable, and passing as written.

The rows come from what the re-run loaded, with the rows that they refer to; if the outcome needs more than these, from
the whole tables that its statements name. Then rows are left out, in ever smaller portions, while the outcome holds
(delta debugging: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from typing import Any

from sqlalchemy import Column, Table, and_, event, func, inspect, select
from sqlalchemy.orm import Mapper

from actionbus.core.values import payload, tagged
from actionbus.replay.debug import Debugging
from actionbus.replay.errors import ReplayError
from actionbus.replay.fixture import Fixture, ReplayedAction
from actionbus.replay.past.words import words_of
from actionbus.replay.sandbox.generated import is_generating

_MOST_ROWS = 2_000
_Row = tuple[str, tuple[Any, ...]]
_TEMPLATE = '''"""{summary}

Written from history by `actionbus replay export-test`: {action}, position {position}, {recorded_at}.
"""

from {module} import {attribute}
from actionbus.replay.fixture import Fixture


def test_{action}_{status}_at_{position}() -> None:
    fixture = Fixture({attribute}, started_at={started_at!r}, seed={seed!r})
{rows}{calls}{generated}
    done = fixture.run(
        {call},
    )
    assert done.status == {status!r}{error}
    assert done.result == {result}
    assert done.changes == {changes}
    assert done.calls == {asked}
'''


class Export:
    """One action on its way into a test file. `application` is its `module:attribute`."""

    def __init__(self, debugging: Debugging, application: str) -> None:
        self._debugging = debugging
        self._sandbox = debugging.replayer.sandbox
        self._entry = debugging.entry
        self._application = application
        self._values: dict[_Row, dict[str, Any]] = {}

    def write(self, path: Path) -> int:
        """Write the file; how many rows it has. Raises ReplayError if the outcome cannot be had from rows alone."""
        chosen = self._chosen_rows()
        wanted = self._outcome(chosen)
        chosen = _shrunk(chosen, lambda rows: self._try(rows) == wanted)
        path.write_text(self._text(chosen, wanted), encoding="utf-8")
        return len(chosen)

    def _outcome(self, rows: list[_Row]) -> ReplayedAction:
        done = self._try(rows)
        if done is None or done.status != self._now:
            raise ReplayError(
                f"{self._entry.outcome.action} does not come out the same on these rows alone (expected {self._now}, "
                f"got {done.status if done else 'an error'}); it needs more than the rows that it reads"
            )
        return done

    def _chosen_rows(self) -> list[_Row]:
        with _loading() as loaded:
            rerun, _ = self._debugging.run()
        self._now = rerun.outcome.status or ""
        words = words_of(rerun.statements)
        tables = [table for table in self._sandbox.models if table.name in words]
        few = self._with_parents([row for row in loaded if self._known(row)])
        self._rows_of(tables)
        done = self._try(few)
        if done is not None and done.status == self._now and self._matches(done, rerun.outcome.result):
            return few
        return self._with_parents(list(self._values))

    def _matches(self, done: ReplayedAction, result: str | None) -> bool:
        return payload.same(done.result, payload.loads(result) if result is not None else None)

    def _known(self, row: _Row) -> bool:
        return self._load(*row) is not None

    def _load(self, name: str, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """A row of the state before the action."""
        if (name, key) not in self._values:
            table = self._sandbox.model(name)
            is_it = and_(*(c == part for c, part in zip(_keys(table), key, strict=True)))
            found = self._sandbox.connection.execute(table.select().where(is_it)).first()
            if found is None:
                return None
            self._values[name, key] = {column.name: found._mapping[column] for column in table.columns}
        return self._values[name, key]

    def _rows_of(self, tables: Sequence[Table]) -> None:
        for table in tables:
            counted = select(func.count()).select_from(table)
            if self._sandbox.connection.execute(counted).scalar_one() > _MOST_ROWS:
                continue
            for row in self._sandbox.rows(table.fullname):
                self._values.setdefault((table.fullname, tuple(row[c.name] for c in _keys(table))), row)

    def _with_parents(self, rows: list[_Row]) -> list[_Row]:
        """The rows and those that they refer to, in an order in which they can be inserted."""
        found = dict.fromkeys(rows)
        pending = list(rows)
        while pending:
            for parent in self._parents(pending.pop()):
                if parent not in found and self._known(parent):
                    found[parent] = None
                    pending.append(parent)
        order = {table.fullname: number for number, table in enumerate(self._sandbox.models)}
        return sorted(found, key=lambda row: (order[row[0]], str(row[1])))

    def _parents(self, row: _Row) -> Iterator[_Row]:
        table = self._sandbox.model(row[0])
        values = self._load(*row) or {}
        for constraint in table.foreign_key_constraints:
            parent = constraint.referred_table
            pairs = {element.column.name: values.get(element.parent.name) for element in constraint.elements}
            keys = [column.name for column in parent.primary_key.columns]
            if all(pairs.get(name) is not None for name in keys):
                yield parent.fullname, tuple(pairs[name] for name in keys)

    def _try(self, rows: Sequence[_Row]) -> ReplayedAction | None:
        """What comes of the action on these rows alone; None if they cannot even be put in."""
        fixture = self._fixture()
        try:
            for name in dict.fromkeys(name for name, _ in rows):
                fixture.rows(name, [self._encoded(row) for row in rows if row[0] == name])
            return fixture.run(**self._call())
        except Exception:
            return None

    def _fixture(self) -> Fixture:
        asked = self._entry.submitted
        assert asked.seed is not None
        fixture = Fixture(self._sandbox.bus.application, started_at=self._entry.started_at.isoformat(), seed=asked.seed)
        for call in self._calls():
            fixture.call(call.pop("call"), *call.pop("args", ()), **call)
        fixture.generated(self._generated())
        return fixture

    def _call(self) -> dict[str, Any]:
        asked = self._entry.submitted
        told: dict[str, Any] = {"action": asked.action, "arguments": asked.arguments}
        optional = {"actor": asked.actor, "context": asked.context, "version": asked.handler_version}
        return told | {name: value for name, value in optional.items() if value is not None}

    def _calls(self) -> list[dict[str, Any]]:
        return [dict(call) for each in self._entry.all() for call in each.outcome.calls or ()]

    def _generated(self) -> list[dict[str, Any]]:
        """The rows that the action inserted into tables whose keys or defaults are generated."""
        found, tables = [], self._sandbox.tables
        for net in self._debugging.recorded:
            table = tables.models.get(net.table)
            if table is not None and net.before is None and net.after is not None and is_generating(table):
                row = tables.python(table, net.after)
                found.append({"table": table.fullname, "row": _encoded(table, row)})
        return found

    def _encoded(self, row: _Row) -> dict[str, Any]:
        return _encoded(self._sandbox.model(row[0]), self._values[row])

    def _text(self, rows: list[_Row], done: ReplayedAction) -> str:
        module, _, attribute = self._application.partition(":")
        outcome = self._entry.outcome
        call = self._call()
        told = ",\n        ".join(
            [
                repr(call.pop("action")),
                _shown(call.pop("arguments"), 8),
                *(f"{name}={_shown(value, 8)}" for name, value in call.items()),
            ]
        )
        by_table: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_table.setdefault(row[0], []).append(self._encoded(row))
        loaded = "".join(f"    fixture.rows({name!r}, {_shown(each, 4)})\n" for name, each in by_table.items())
        calls = "".join(f"    fixture.call({self._call_text(each)})\n" for each in self._calls())
        generated = f"    fixture.generated({_shown(self._generated(), 4)})\n" if self._generated() else ""
        error = f"\n    assert done.error == {_shown(done.error, 4)}" if done.error else ""
        return _TEMPLATE.format(
            summary=f"{outcome.action} {done.status}, as it did on {outcome.recorded_at:%Y-%m-%d}.",
            action=outcome.action,
            position=outcome.position,
            recorded_at=outcome.recorded_at.isoformat(),
            module=module,
            attribute=attribute,
            status=done.status,
            started_at=self._entry.started_at.isoformat(),
            seed=self._entry.submitted.seed,
            rows=loaded,
            calls=calls,
            generated=generated,
            call=told,
            error=error,
            result=_shown(done.result, 4),
            changes=_shown(done.changes, 4),
            asked=_shown(done.calls, 4),
        )

    def _call_text(self, call: dict[str, Any]) -> str:
        parts = [repr(call.pop("call")), *(_shown(each, 4) for each in call.pop("args", ()))]
        return ", ".join([*parts, *(f"{name}={_shown(value, 4)}" for name, value in call.items())])


def _keys(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns) or list(table.columns)


def _encoded(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """A row as tagged JSON, without what the database computes."""
    stored = {column.name for column in table.columns if column.computed is None}
    return {name: tagged.encode(value) for name, value in row.items() if name in stored}


def _shown(value: Any, indent: int) -> str:
    return pformat(value, width=100, sort_dicts=False).replace("\n", "\n" + " " * indent)


def _shrunk(rows: list[_Row], holds: Callable[[list[_Row]], bool]) -> list[_Row]:
    """Fewer rows with which it still holds: none of them can be left out alone."""
    size = max(1, len(rows) // 2)
    while rows:
        start = 0
        while start < len(rows):
            fewer = rows[:start] + rows[start + size :]
            if holds(fewer):
                rows = fewer
            else:
                start += size
        if size == 1:
            break
        size = max(1, size // 2)
    return rows


@contextmanager
def _loading() -> Iterator[list[_Row]]:
    """The rows that the ORM loads while the block runs."""
    found: dict[_Row, None] = {}

    def loaded(target: Any, context: Any) -> None:
        state = inspect(target)
        if state.identity is not None:
            found[state.mapper.local_table.fullname, tuple(state.identity)] = None

    event.listen(Mapper, "load", loaded)
    rows: list[_Row] = []
    try:
        yield rows
    finally:
        event.remove(Mapper, "load", loaded)
        rows += found
