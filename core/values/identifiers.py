"""Reads an action's id as callers have it: a UUID, or the text that JSON, URLs and the command line hand out."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

AnyId: TypeAlias = UUID | str


def action_id_of(given: object) -> UUID:
    """The id. Raises ValueError for what is not an id."""
    if isinstance(given, UUID):
        return given
    if isinstance(given, str):
        try:
            return UUID(given)
        except ValueError:
            pass
    raise ValueError(f"an action's id is a UUID or its text, not {given!r:.80}; an outcome and a ticket carry it")
