"""Replay where rows were erased: what wrote them cannot be compared, what did not runs upon what is left of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Date, Integer, MetaData, String, Table
from sqlalchemy.engine import URL

from actionbus import Application, Bus
from actionbus.adapters.cli.replay_output import change_document
from actionbus.replay import Replayer, ReplayError
from actionbus.replay.debug import Debugging
from actionbus.replay.fork import Forking
from tests.replay.conftest import NewSandbox, open_bus

OF_MEMBER = {"personal": "member"}
WROTE = "it wrote a row of {} whose {} was erased with its subject"


def club() -> Application:
    """With values that must be there, and of types that are no text; notes have no key."""
    metadata = MetaData()
    Table(
        "members",
        metadata,
        Column("member", Integer, primary_key=True, autoincrement=False),
        Column("born", Integer, nullable=False, info=dict(OF_MEMBER)),
        Column("joined", Date, nullable=False, info=dict(OF_MEMBER)),
        Column("grade", Integer, nullable=False, server_default="5", info=dict(OF_MEMBER)),
        Column("points", Integer),
    )
    number = Column("number", Integer, info=dict(OF_MEMBER))
    Table("notes", metadata, Column("member", Integer), number, Column("text", String))
    return Application("club", actions=["tests.replay.club"], models=metadata)


@pytest.fixture
def bus(url: URL) -> Iterator[Bus]:
    with open_bus(club(), url) as bus:
        yield bus


def act(bus: Bus, *done: str) -> dict[int, str]:
    """Things done to members, such as `enter 1`; by the position of each."""
    found = {}
    for each in done:
        what, member = each.split()
        found[bus.execute("act", {"what": what, "member": int(member)}).position] = each
    return found


def test_what_wrote_erased_rows_is_unplayable_and_all_else_is_played(bus: Bus, new_sandbox: NewSandbox) -> None:
    done = act(
        bus,
        "enter 1",
        "enter 2",
        "note 1",
        "note 2",
        "count 1",
        "oldest 1",
        "point 1",
        "point 2",
        "renote 1",
        "renote 2",
        "rub 1",
        "rub 2",
        "leave 1",
        "count 1",
        "oldest 1",
    )
    assert bus.erase(1).images
    with Replayer(bus.journal, club(), new_sandbox()) as replayer:
        steps = list(replayer.verify())
    told = [(done.get(each.position, "erase"), each.verdict, each.why) for each in steps]
    read = "it reads or writes members.born, of which values were erased with their subject"
    members, notes = WROTE.format("members", "born"), WROTE.format("notes", "number")
    assert told == [
        ("enter 1", "unplayable", members),
        ("enter 2", "same", None),
        ("note 1", "unplayable", notes),
        ("note 2", "same", None),
        ("count 1", "same", None),
        ("oldest 1", "unplayable", read),
        ("point 1", "unplayable", members),
        ("point 2", "same", None),
        ("renote 1", "unplayable", notes),
        ("renote 2", "same", None),
        ("rub 1", "unplayable", notes),
        ("rub 2", "same", None),
        ("leave 1", "unplayable", members),
        ("count 1", "same", None),
        ("oldest 1", "same", None),
        ("erase", "unplayable", "it erased a subject, whom no record names"),
    ]


def test_a_replay_may_begin_with_rows_that_are_erased(bus: Bus, new_sandbox: NewSandbox) -> None:
    done = act(bus, "enter 1", "enter 2", "note 1", "note 1", "note 2", "count 1", "rub 1", "rub 2")
    begin = next(position for position, each in done.items() if each == "count 1") - 1
    bus.erase(1)
    with Replayer(bus.journal, club(), new_sandbox()) as replayer:
        told = {done.get(each.position): each.verdict for each in replayer.run(begin)}
        left = replayer.sandbox.rows("notes")
    assert told == {"count 1": "same", "rub 1": "unplayable", "rub 2": "same", None: "unplayable"}
    assert left == []


def test_a_fork_goes_on_past_erased_rows_and_a_debugger_does_not_begin(bus: Bus, new_sandbox: NewSandbox) -> None:
    done = act(bus, "enter 1", "enter 2", "note 2", "point 1", "point 2", "count 1")
    bus.erase(1)
    ids = {each: bus.journal.at(position).action_id for position, each in done.items()}  # type: ignore[union-attr]
    with Replayer(bus.journal, club(), new_sandbox()) as replayer:
        fork = Forking(replayer, skip=[ids["note 2"]]).run()
    assert [(each.action_id, each.now) for each in fork.ended] == [(ids["note 2"], None)]
    assert [(each.table, each.after) for each in fork.rows] == [("notes", None)]
    with (
        Replayer(bus.journal, club(), new_sandbox()) as replayer,
        pytest.raises(ReplayError, match="it wrote a row of members whose born was erased"),
    ):
        Debugging(replayer, ids["point 1"])


def test_a_fork_tells_an_erased_value_as_such(bus: Bus, new_sandbox: NewSandbox) -> None:
    done = act(bus, "enter 1", "enter 2", "leave 1")
    bus.erase(1)
    ids = {each: bus.journal.at(position).action_id for position, each in done.items()}  # type: ignore[union-attr]
    with Replayer(bus.journal, club(), new_sandbox()) as replayer:
        fork = Forking(replayer, skip=[ids["leave 1"]]).run()
    (row,) = fork.rows
    assert row.before is None
    assert row.after is not None
    told = change_document(row)["after"]
    assert told["born"].keys() == told["joined"].keys() == {"$erased"}
    assert (told["member"], told["points"]) == (1, 1)
