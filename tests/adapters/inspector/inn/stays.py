"""The inn's projection."""

from __future__ import annotations

from typing import Any

from actionbus import Record
from actionbus.projections import Projection, on


class Stays(Projection):
    """Who stays in which room."""

    version = 1
    mappings = {"properties": {"guest": {"type": "text"}}}

    @on("reserve", key="id")
    def reserved(self, document: dict[str, Any] | None, record: Record) -> dict[str, Any]:
        """A guest more."""
        return {"guest": record.arguments["guest"]}
