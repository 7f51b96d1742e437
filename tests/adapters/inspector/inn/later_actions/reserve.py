"""Reserve a room, as before."""

from __future__ import annotations

from tests.adapters.inspector.inn.actions.reserve import Reserve as Before


class Reserve(Before):
    """Reserve a room."""
