"""Folds single documents anew in memory, from the journal's start. Used by verification and by mending."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from actionbus.core import Journal, Record
from actionbus.projections.fold import Fold, Poison
from actionbus.projections.projection import Projection, Reducer
from actionbus.projections.store import StoredDocument, Write

_PAGE: Final = 2_000
"""Records folded at a time: what of them is in memory at once."""


class _FoldOfSome(Fold):
    """Folds only some documents, each up to a position of its own."""

    def __init__(self, projection: type[Projection], upto: Mapping[str, int]) -> None:
        super().__init__(projection)
        self.upto = dict(upto)

    def keys(self, record: Record) -> list[tuple[Reducer, list[str]]]:
        """Those of a record that are folded up to there."""
        found = [
            (reducer, [key for key in keys if record.position <= self.upto.get(key, 0)])
            for reducer, keys in super().keys(record)
        ]
        return [(reducer, keys) for reducer, keys in found if keys]


def folded_anew(
    journal: Journal,
    projection: type[Projection],
    upto: Mapping[str, int],
    skipped: Collection[int],
    *,
    watch: Callable[[int, int], None] = lambda position, records: None,
    refuse: Callable[[Poison], None] = lambda poison: None,
) -> dict[str, Write]:
    """The documents with the keys of `upto`, each as of its position there, without skipped records.

    What a document would be written as last; a key that nothing was ever folded into is not in the answer. `watch`
    hears of progress: the position, and how many records were read since it heard last. `refuse` hears of a record that
    a reducer cannot absorb; unless it raises, its document is left as it was before.
    """
    folded: dict[str, Write] = {}
    fold = _FoldOfSome(projection, upto)
    batch: list[Record] = []

    def load(keys: Collection[str]) -> dict[str, StoredDocument]:
        return {key: StoredDocument(folded[key].version, folded[key].document()) for key in keys if key in folded}

    def absorb() -> None:
        while batch:
            result = fold.absorb(batch, load)
            folded.update({write.key: write for write in result.writes})
            if result.poison is None:
                break
            refuse(result.poison)
            del batch[: next(at for at, record in enumerate(batch) if record.position >= result.poison.position)]
            if result.poison.key is None:
                del batch[0]
            else:
                fold.upto.pop(result.poison.key, None)
        batch.clear()

    journal.begins.require(0)
    for record in journal.read(
        upto=max(upto.values(), default=0), kind="outcome", action=projection.wanted_actions(), wait=False
    ):
        if record.position not in skipped:
            batch.append(record)
        if len(batch) == _PAGE:
            absorb()
            watch(record.position, _PAGE)
    absorb()
    return folded
