"""Mends documents that hold one record that they should not, or lack one that they should. The feeder calls it.

An index is written batch by batch, and several records of a batch go into one write of a document. So when the store
refuses one document of a record, others may be written that hold that record and later ones; and when an operator
decides to leave a record out, it may have been absorbed. Then the documents which the record is about are folded anew
from the journal's start, with it or without, each up to the version that it has, and replace what is stored at that
same version: nothing that is on its way to the store at or below it can undo that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from actionbus.core import Journal
from actionbus.projections.fold import Fold, Poison, stopped_by
from actionbus.projections.projection import Projection
from actionbus.projections.refold import folded_anew
from actionbus.projections.store import StoredDocument, Write

_SIGN_S: Final = 2.0
"""Seconds between signs of life while the journal is read."""


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
        stored = self._load(keys) if keys else {}
        upto: dict[str, int] = {}
        for key in keys:
            version = stored[key].version if key in stored else 0
            if is_passed or version >= position:
                upto[key] = max(version, position)
        if not upto:
            return False
        last_sign = time.monotonic()

        def watch(_position: int, _records: int) -> None:
            nonlocal last_sign
            if time.monotonic() - last_sign > _SIGN_S:
                self._sign()
                last_sign = time.monotonic()

        def cannot(poison: Poison) -> None:
            if refuse:
                raise stopped_by(poison, self._projection.name)

        folded = folded_anew(self._journal, self._projection, upto, left_out, watch=watch, refuse=cannot)
        nothing = Write("", 0, None, record.recorded_at.isoformat())
        self._write(
            [folded.get(key, nothing)._replace(key=key, version=version, mends=True) for key, version in upto.items()]
        )
        return True
