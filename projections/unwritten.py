"""UnwrittenKeys: which documents an index cannot hold, since it was empty when its holder began. SliceWriter asks it.

Who loads an index from the journal's start meets documents that are not there yet, most of the time, and to ask the
store for each of them costs it a tenth of all that the load costs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

_PLACES: Final = 1 << 22
"""Bytes. Of a million keys written, one in ten that were not is asked for nevertheless, on the average."""


class UnwrittenKeys:
    """Keys are told apart by their hashes alone, so a key may be taken for one that was written; never the reverse."""

    def __init__(self) -> None:
        self._written = bytearray(_PLACES)

    def add(self, keys: Iterable[str]) -> None:
        """Take them for written, from before they are sent."""
        written = self._written
        for key in keys:
            written[hash(key) % _PLACES] = 1

    def left_of(self, keys: Collection[str]) -> list[str]:
        """Those that may have been written."""
        written = self._written
        return [key for key in keys if written[hash(key) % _PLACES]]
