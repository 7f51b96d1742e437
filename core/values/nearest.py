"""`nearest`: which of the names that there are somebody may have meant; for declarations and settings."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_ALIKE: Final = 0.8
"""How much of two names must be the same, by difflib: `quue` is near `queue`, `query` is not."""


def nearest(name: str, names: Iterable[str], alike: float = _ALIKE) -> str | None:
    """The one of `names` that `name` is a misspelling of, if any. Underscores, case and plurals make no difference."""
    found = [(_likeness(name.lower().replace("_", ""), each.lower().replace("_", "")), each) for each in names]
    likeness, which = max(found, default=(0.0, ""))
    return which if likeness >= alike else None


def _likeness(one: str, other: str) -> float:
    pairs = ((one, other), (_singular(one), _singular(other)))
    return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)


def _singular(plain: str) -> str:
    if plain.endswith("ies"):
        return plain[:-3] + "y"
    return plain[:-1] if plain.endswith("s") else plain
