"""What archives, attaches or prunes is killed at every step while eight write: nothing is lost, nothing is there twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from actionbus import Bus, HistoryArchived
from actionbus.core.declare.personal import TableDeclaration
from actionbus.core.history.archiving import place_at
from actionbus.core.history.declared import declare
from actionbus.core.history.pruning import _of_table
from actionbus.core.storage.archives import Archive, archives
from actionbus.replay.archives.attach import attach
from actionbus.replay.archives.folders import JOURNAL
from actionbus.replay.archives.lines import kind_of, lines_of
from tests.conftest import TORTURE, prepared, query
from tests.replay.archives.history import archived, live, nobody, told
from tests.replay.archives.killing import killed
from tests.replay.archives.writing import Writing
from tests.shop.app import make_application

COLUMNS = {"accounts": "id, name, balance", "entries": "id, account_id, amount"}


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    """A shop whose rows are recorded."""
    prepared(url, recorded=True)
    with Bus(make_application(), url) as bus:
        yield bus


def _steps(every: int) -> Iterator[int]:
    """Where to kill, one after the other, until somebody was not."""
    return count(1, 1 if TORTURE else every)


class Part:
    """What lies before a position, to be archived: what is told of it, and what must be there or there."""

    def __init__(self, bus: Bus, writing: Writing, folder: Path) -> None:
        self._bus, self.folder = bus, folder
        writing.go_on(12)
        self.upto = place_at(bus.journal, bus.journal.settled()).upto
        self.later = bus.journal.settled(wait=True)
        self.records = _positions(bus, self.upto)
        self.states = self.told()

    def told(self) -> dict[int, Any]:
        """The states of tables at its end, and now."""
        return {position: told(self._bus, position) for position in (self.upto, self.later)}

    def is_noted(self) -> bool:
        """Whether it is decided that it goes. Each record is in the database, or in an archive that is whole."""
        assert self.told() == self.states
        here, last = _positions(self._bus, self.upto), archives(self._bus.backend)[-1:]
        if not last or last[0].upto != self.upto:
            assert here == self.records
            return False
        assert _of(self.folder) == self.records
        with pytest.raises(HistoryArchived, match=str(self.folder)):
            self._bus.history.state(None, self.upto - 1)
        return True

    def finish(self) -> None:
        """Go on with it, if need be, as the next call does; it is out, and nothing else is."""
        if not (self.is_noted() and archives(self._bus.backend)[-1].state == "removed"):
            archived(self._bus, self.upto, self.folder)
        assert self.is_noted()
        done = archives(self._bus.backend)[-1]
        expected = ("removed", len(self.records), str(self.folder))
        assert (done.state, done.records, done.folder) == expected
        assert _left(self._bus, self.upto) == []


class Parts:
    """All parts of a journal, one after the other."""

    def __init__(self, bus: Bus, writing: Writing, folder: Path) -> None:
        self._bus, self._writing, self._folder = bus, writing, folder
        self._parts: list[Part] = []

    def next(self) -> Part:
        """One that begins where the last has ended, once the writers have gone on."""
        self._parts.append(Part(self._bus, self._writing, self._folder / f"archive {len(self._parts)}"))
        return self._parts[-1]

    def are_all_there(self) -> None:
        """Once they are attached again, nothing that any writer was told is missing, or otherwise."""
        _adds_up(self._bus, self._writing)
        for each in reversed(self._parts):
            if each.folder.exists():
                attach(self._bus, each.folder, operator=True, watch=nobody)
        for each in self._parts:
            assert each.told() == each.states
        assert set(self._writing.acknowledged) <= set(_positions(self._bus, self._bus.journal.settled()))
        assert _gaps(self._bus) == ()


def archiving_before_it_is_decided(bus: Bus, tmp_path: Path) -> int:
    """The folder is written, read back and put into its place; then the action. How many steps that takes."""
    with Writing(bus) as writing:
        parts = Parts(bus, writing, tmp_path)
        own = parts.next()
        for before in _steps(97):
            was_killed = killed(bus, "archive", own.folder, own.upto, before=before, meanwhile=writing.let)
            if own.is_noted() or not was_killed or before % 5 == 0:
                own.finish()
                own = parts.next()
            elif own.folder.exists():  # so that the next one takes every step
                shutil.rmtree(own.folder)
            if not was_killed:
                break
    parts.are_all_there()
    return before


def archiving_after_it_is_decided(bus: Bus, tmp_path: Path) -> int:
    """Images and records go, some at a time; so does what goes on with that."""
    with Writing(bus) as writing:
        parts = Parts(bus, writing, tmp_path)
        for after in _steps(211):
            own = parts.next()
            was_killed = killed(bus, "archive", own.folder, own.upto, after=after, meanwhile=writing.let)
            if was_killed and after % 3 == 0:  # the one that goes on, too
                killed(bus, "archive", own.folder, own.upto, before=1 + after % 29, meanwhile=writing.let)
            own.finish()
            if not was_killed:
                break
    parts.are_all_there()
    return after


def attaching(bus: Bus, tmp_path: Path) -> int:
    """All of it is one transaction, before which nothing is back, and after which everything is."""
    live(bus, 60)
    upto, folder = place_at(bus.journal, bus.journal.settled()).upto, tmp_path / "archive"
    states = {position: told(bus, position) for position in range(upto - 20, upto + 1)}
    whole = _positions(bus, upto)
    archived(bus, upto, folder)
    left = _positions(bus, upto)
    with Writing(bus) as writing:
        for before in _steps(61):
            writing.let()
            was_killed = killed(bus, "attach", folder, upto, before=before, meanwhile=writing.let)
            state = archives(bus.backend)[-1].state
            assert _positions(bus, upto) == {"removed": left, "attached": whole}[state], before
            assert told(bus, upto) == states[upto]
            if state == "attached":
                break
            assert was_killed
            with pytest.raises(HistoryArchived):
                told(bus, upto - 20)
    assert {position: told(bus, position) for position in states} == states
    _adds_up(bus, writing)
    return before


def pruning(bus: Bus, tmp_path: Path) -> int:
    """Of two tables, once that is decided."""
    with bus.engine.begin() as connection:
        declare(bus.backend, connection, [TableDeclaration(table, None, {}, "1 day") for table in COLUMNS])
    with Writing(bus) as writing:
        for after in _steps(211):
            writing.go_on(12)
            made, last = len(archives(bus.backend)), bus.journal.settled(wait=True)
            upto = _before_the_moment_of(bus, last)
            state = told(bus, upto)
            was_killed = killed(bus, "prune", tmp_path, last, after=after, meanwhile=writing.let)
            assert told(bus, upto) == state
            assert not killed(bus, "prune", tmp_path, last, meanwhile=writing.let)
            assert told(bus, upto) == state
            done = archives(bus.backend)[made:]
            assert {(each.state, _due(bus, each)) for each in done} == {("removed", 0)}  # of those that were changed
            if not was_killed:
                break
    _adds_up(bus, writing)
    assert _gaps(bus) == ()
    return after


@pytest.mark.timeout(7_200 if TORTURE else 300)
@pytest.mark.parametrize(
    "campaign", [archiving_before_it_is_decided, archiving_after_it_is_decided, attaching, pruning]
)
def test_killed_at_every_step(bus: Bus, campaign: Callable[[Bus, Path], int], tmp_path: Path) -> None:
    print(campaign(bus, tmp_path), "steps")


def _positions(bus: Bus, upto: int) -> list[int]:
    return [at for (at,) in query(bus.engine.url, f"SELECT position FROM journal WHERE position <= {upto} ORDER BY 1")]


def _of(folder: Path) -> list[int]:
    """Positions of the records of an archive."""
    lines = lines_of(folder / JOURNAL)
    next(lines)
    return [each["position"] for each in lines if kind_of(each) == "record"]


def _left(bus: Bus, upto: int) -> list[Any]:
    """What is there still, though its action ended before the cut."""
    return query(
        bus.engine.url,
        f"SELECT s.position FROM journal s WHERE s.position <= {upto} AND (s.kind <> 'submitted' OR EXISTS "
        f"(SELECT 1 FROM journal o WHERE o.action_id = s.action_id AND o.kind = 'outcome' AND o.position <= {upto}))",
    )


def _before_the_moment_of(bus: Bus, position: int) -> int:
    """Up to where goes what was recorded earlier than a record."""
    record = bus.journal.at(position)
    assert record is not None
    return bus.journal.last_before(record.recorded_at - timedelta(microseconds=1))


def _due(bus: Bus, pruned: Archive) -> int:
    """How many images are there still that were to go."""
    assert pruned.table_name is not None
    return _of_table(bus.history, pruned.table_name, place_at(bus.journal, pruned.upto))[1]


def _adds_up(bus: Bus, writing: Writing) -> None:
    """No writer was refused; tables are as history has them, and add up."""
    assert writing.errors == []
    assert len(writing.acknowledged) == len(set(writing.acknowledged))
    state = {name.rpartition(".")[2]: rows for name, rows in told(bus, bus.journal.settled(wait=True)).items()}
    for table, names in COLUMNS.items():
        rows = [tuple(each[name.strip()] for name in names.split(",")) for each in state.get(table, ())]
        assert sorted(rows) == sorted(query(bus.engine.url, f"SELECT {names} FROM {table}"))
    for account in (each for each in state.get("accounts", ()) if each["id"] >= 100):  # the writers' own
        entries = (each["amount"] for each in state.get("entries", ()) if each["account_id"] == account["id"])
        assert sum(entries) == account["balance"]


def _gaps(bus: Bus) -> tuple[Any, ...]:
    return tuple(gap for each in bus.history.state(None).basis.tables for gap in each.gaps)
