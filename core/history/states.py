"""The rows of a table as they were, one key after the other, in bounded memory. Used by `core.history.history`.

Where each image of a key takes away what the one before it left, the last one tells the row: the sum of them all comes
to the same. Only where they do not follow, as where the order of images is not that of execution, the sum is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from actionbus.core.errors import HistoryError
from actionbus.core.history.fold import Broken, Fold
from actionbus.core.history.images import Chain, Cut, Images, Residual
from actionbus.core.history.recorded import Recorded

_CHUNK: Final = 250
"""Python's collector looks at what is made in between: of many small rounds it looks at least."""


class Rows:
    """The rows of one table at one position. What does not add up in them is in `broken` when they have been read."""

    def __init__(self, images: Images, recorded: Recorded, cut: Cut) -> None:
        self._images = images
        self._recorded = recorded
        self._cut = cut
        self._fold = Fold(recorded.shapes, images.values)
        self.broken: list[Broken] = []

    def all(self) -> Iterator[Residual]:
        """Each row as often as it is there, in the order of keys; without a key in none, and all in memory."""
        if self._fold.is_keyed:
            for chunk in self._by_key(None, _CHUNK):
                yield from (Residual(each.shape, each.key, each.row, 1, 0) for each in chunk)
            return
        images, recorded = self._images, self._recorded
        folded = self._fold.settle(images.residue(recorded.shapes, recorded.since_image, self._cut))
        self.broken += folded.broken
        yield from folded.rows

    def columns(self, after: Any = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """The same by columns; beyond a key, at most so many. Raises HistoryError where there is no key to go by."""
        if after is None and limit is None and not self._fold.is_keyed:
            yield from self._told([row for row in self.all() for _ in range(row.times)])
            return
        if not self._fold.is_keyed:
            raise HistoryError(_no_order(self._recorded))
        beyond = None if after is None else self._recorded.key_of(after)
        found = (row for chunk in self._by_key(beyond, min(limit or _CHUNK, _CHUNK)) for row in self._told(chunk))
        yield from islice(found, limit)

    def _by_key(self, after: Any, size: int) -> Iterator[Sequence[Chain | Residual]]:
        recorded = self._recorded
        chains = self._images.chains(recorded.shapes, recorded.since_image, self._cut, after)
        while chunk := list(islice(chains, size)):
            summed = self._summed(self._fold.doubtful(chunk))
            there: list[Chain | Residual] = []
            for each in chunk:
                if summed and each.key in summed:
                    there += summed[each.key]
                elif each.row is not None:
                    there.append(each)
            yield there

    def _summed(self, keys: Sequence[Any]) -> dict[Any, list[Residual]]:
        found: dict[Any, list[Residual]] = {key: [] for key in keys}
        if keys:
            recorded = self._recorded
            residue = self._images.residue(recorded.shapes, recorded.since_image, self._cut, keys=keys)
            folded = self._fold.settle(residue)
            self.broken += folded.broken
            for row in folded.rows:
                found[row.key].append(row)
        return found

    def _told(self, rows: Sequence[Chain | Residual]) -> Iterator[dict[str, Any]]:
        by_shape: dict[int, list[Any]] = {}
        for each in rows:
            by_shape.setdefault(each.shape, []).append(each.row)
        told = {shape: iter(self._recorded.columns_of(shape, found)) for shape, found in by_shape.items()}
        if len(told) == 1:
            return next(iter(told.values()))
        return (next(told[each.shape]) for each in rows)


def _no_order(recorded: Recorded) -> str:
    if not recorded.shape.key:
        return f"{recorded.name} has no key by which its rows could be told page by page; ask for its whole state"
    return (
        f"the key of {recorded.name} was another one earlier, so that its rows have no order by which they could be "
        "told page by page; ask for its whole state, or take a baseline"
    )
