"""A fold comes to the same in whatever room: a model of what the feeder does with its answers, by chance, in memory."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from actionbus.core import Record
from actionbus.projections import Projection, on
from actionbus.projections.entries import Room
from actionbus.projections.fold import Fold, FoldResult
from actionbus.projections.store import StoredDocument
from tests.conftest import TORTURE

Document = dict[str, Any]


class Given:
    """As much of a record as a fold looks at."""

    kind, action, status, result = "outcome", "put", "succeeded", None

    def __init__(self, position: int, keys: list[str], size: int, poison: bool) -> None:
        self.position, self.recorded_at = position, datetime(2026, 1, 1, tzinfo=UTC)
        self.arguments = {"keys": keys, "first": keys[:1], "size": size, "poison": poison}


class Sizes(Projection):
    """Documents that grow, shrink, vanish and come again; keys that two reducers want."""

    @on("put", key=lambda record: record.arguments["keys"])
    def put(self, document: Document | None, record: Any) -> Document | None:
        given = record.arguments
        if given["poison"] and document and document["n"] % 2:
            raise ValueError("no")
        if given["size"] % 7 == 3:
            return None
        return {"n": (document or {"n": 0})["n"] + 1, "at": record.position, "text": "x" * given["size"]}

    @on("put", key=lambda record: record.arguments["first"])
    def first(self, document: Document | None, record: Any) -> Document | None:
        return document and {**document, "n": document["n"] + 2}


class Kept:
    """Documents by key, and how many were asked for or come at a time."""

    def __init__(self) -> None:
        self.documents: dict[str, StoredDocument] = {}
        self.most = self.appeared = self.versions = 0

    def load(self, keys: Collection[str]) -> dict[str, StoredDocument]:
        self.most = max(self.most, len(keys))
        return {key: self.documents[key] for key in keys if key in self.documents}

    def take(self, folded: FoldResult) -> None:
        self.documents |= {each.key: StoredDocument(each.version, each.document()) for each in folded.writes}
        self.appeared, self.versions = self.appeared + folded.appeared, self.versions + folded.versions

    def has_what_it_counted(self) -> bool:
        alive = [each.version for each in self.documents.values() if each.document is not None]
        return (self.appeared, self.versions) == (len(alive), sum(alive))


def folded(records: list[Record], room: Room | None, batch: int) -> tuple[Kept, int | None]:
    """What is kept in the end, and the position of the record that cannot be absorbed, if there is one."""
    kept, fold = Kept(), Fold(Sizes)
    while records:
        found = fold.absorb(records[:batch], kept.load, (), room)
        parts = [found] if found.great is None else list(fold.in_parts(found.great, kept.load, cast("Room", room)))
        poison = next((part.poison for part in parts if part.poison), None)
        if poison is None or found.great is None:
            for part in parts:
                kept.take(part)
        if poison:
            return kept, poison.position
        assert found.beyond is None or found.beyond > records[0].position, "it goes on"
        done = found.beyond or records[:batch][-1].position + 1
        records = [record for record in records if record.position >= done]
    return kept, None


@pytest.mark.parametrize("seed", range(400 if TORTURE else 40))
def test_in_whatever_room_the_documents_and_their_counts_are_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actionbus.projections.entries._FIRST_PAGE", 3)
    chance = random.Random(seed)
    names = [f"k{number}" for number in range(chance.choice([3, 12, 40]))]
    poisonous = chance.choice([0, 0, 0.05])
    given = [
        Given(
            position,
            chance.sample(names, chance.randrange(1 + chance.choice([1, 3, len(names)]))),
            chance.choice([0, 10, 100, 300, 1000]),
            chance.random() < poisonous,
        )
        for position in range(1, 60)
    ]
    records = cast("list[Record]", given)
    whole, stopped = folded(records, None, chance.choice([1, 7, 100]))
    room = Room(chance.choice([1, 2, 7, 30]), chance.choice([1, 500, 3_000, 10**6]))
    some, stopped_there = folded(records, room, chance.choice([1, 7, 100]))
    assert (some.documents, stopped_there) == (whole.documents, stopped)
    assert some.has_what_it_counted()
    assert some.most <= max(3, room.documents)
