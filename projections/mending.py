"""Mends documents that hold one record that they should not, or lack one that they should. The feeder calls it.

An index is written batch by batch, and several records of a batch go into one write of a document. So when the store
refuses one document of a record, others may be written that hold that record and later ones; and when an operator
decides to leave a record out, it may have been absorbed. Then the documents which the record is about are folded anew
from the journal's start, with it or without, each up to the version that it has, and replace what is stored at that
same version: nothing that is on its way to the store at or below it can undo that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from actionbus.core import Journal
from actionbus.projections.claim import SignsOfLife
from actionbus.projections.entries import Room, pages
from actionbus.projections.fold import Fold, Poison, stopped_by
from actionbus.projections.projection import Projection
from actionbus.projections.refold import folded_anew
from actionbus.projections.store import StoredDocument, Write

_MOST: Final = Room(documents=50_000, bytes=64_000_000)
"""Documents that are folded anew at a time: for each time the journal is read from its start."""
_PAGE: Final = Room(documents=2_000, bytes=64_000_000)
"""Of them, what is loaded at a time."""


class Mender:
    """Of one slice of one index. `load` and `write` are to and from the store, `sign` is a sign of life."""

    def __init__(
        self,
        journal: Journal,
        projection: type[Projection],
        fold: Fold,
        load: Callable[[Collection[str]], Mapping[str, StoredDocument]],
        write: Callable[[list[Write]], None],
        sign: Callable[[], None],
    ) -> None:
        self._journal, self._projection, self._fold = journal, projection, fold
        self._load, self._write, self._sign = load, write, sign

    def mend(self, position: int, left_out: Collection[int], *, is_passed: bool, refuse: bool) -> bool:
        """Fold the documents of the record at a position anew; whether any was written.

        Where the record `is_passed`, documents that are not yet at its position are brought there, so that a write of
        an earlier holder, which had the record in it, comes too late. With `refuse` a record that cannot be folded now
        raises ProjectionStopped; else its document is left as before it.
        """
        record = next(iter(self._journal.read(position - 1, upto=position, kind="outcome", wait=False)), None)
        if record is None:
            return False
        try:
            keys = list(dict.fromkeys(key for _, several in self._fold.keys(record) for key in several))
        except Exception:  # it has no keys: no document ever held it
            return False
        signs, is_mended = SignsOfLife(self._sign), False

        def cannot(poison: Poison) -> None:
            if refuse:
                raise stopped_by(poison, self._projection.name)

        for upto in self._versions(keys, position, is_passed=is_passed):
            folded = folded_anew(
                self._journal, self._projection, upto, left_out, watch=lambda *_: signs.give(), refuse=cannot
            )
            nothing = Write("", 0, None, record.recorded_at.isoformat())
            self._write(
                [folded.get(key, nothing)._replace(key=key, version=to, mends=True) for key, to in upto.items()]
            )
            is_mended = True
        return is_mended

    def _versions(self, keys: Sequence[str], position: int, *, is_passed: bool) -> Iterator[dict[str, int]]:
        """Of documents that are to be folded anew, as many as there is room for at a time: up to where each is."""
        upto: dict[str, int] = {}
        size = 0
        for part, stored, weight in pages(keys, self._load, _PAGE):
            for key in part:
                version = stored[key].version if key in stored else 0
                if is_passed or version >= position:
                    upto[key] = max(version, position)
            size += weight
            if len(upto) >= _MOST.documents or size >= _MOST.bytes:
                yield upto
                upto, size = {}, 0
        if upto:
            yield upto
