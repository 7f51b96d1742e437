"""Holding: what an index is to hold, by what its checkpoints and operators' decisions say. Verification asks it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from actionbus.projections.fold import slice_of
from actionbus.projections.ledger import Checkpoint


class Holding(NamedTuple):
    """How far its slices are, and what they go on without. By slice."""

    rows: Sequence[Checkpoint]
    without: Sequence[frozenset[int]]
    """Positions of records of which nothing is in the slice."""
    pending: Sequence[frozenset[int]]
    """Of those, which the slice may still hold, since whoever feeds it has not heard of the decision."""
    pruned_to: int

    def row_of(self, key: str) -> int:
        """Which slice a document is in."""
        return slice_of(key, len(self.rows))

    def holds(self, key: str, position: int) -> bool:
        """Whether a record that was absorbed is to be in a document."""
        return position not in self.without[self.row_of(key)]

    def without_pending(self) -> Holding:
        """As whoever feeds it knows it."""
        without = [known - unknown for known, unknown in zip(self.without, self.pending, strict=True)]
        return self._replace(without=without, pending=[frozenset()] * len(self.rows))

    def agrees_with(self, later: Holding) -> bool:
        """Whether documents that were read between the two can be judged by them."""
        same = (self.without, self.pending, len(self.rows)) == (later.without, later.pending, len(later.rows))
        return same and later.pruned_to <= min(row.position for row in self.rows)


class Sample:
    """Chooses about one of `of` keys by a hash, anew each time, and those of some documents of the index."""

    def __init__(self, keys: frozenset[str], of: int) -> None:
        self.keys, self._of, self._salt = keys, of, secrets.token_bytes(8)

    def __call__(self, key: str) -> bool:
        hashed = hashlib.blake2b(key.encode(), key=self._salt, digest_size=8).digest()
        return key in self.keys or int.from_bytes(hashed, "big") % self._of == 0
