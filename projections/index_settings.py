"""Index settings, however Elasticsearch lets them be spelled. Asked when a projection is checked, and by its store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DURABILITY: Final = "translog.durability"
"""The setting that says whether an index keeps in a crash what it has acknowledged: `request`, or not: `async`."""


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """By their dotted names, without `index.`: `{"index": {"a": {"b": 1}}}` and `{"index.a.b": 1}` are `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}".removeprefix("index.")] = value
    return found
