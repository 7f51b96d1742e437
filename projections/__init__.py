"""Projections fold the journal into documents that can be searched: see docs/projections.md."""

from actionbus.projections.documents import documents_at
from actionbus.projections.errors import (
    Held,
    Lagging,
    NeedsRebuild,
    NotOurs,
    ProjectionError,
    Stopped,
    StoreError,
    StoreUnavailable,
    UnknownProjection,
)
from actionbus.projections.operations import Projections
from actionbus.projections.projection import STATUSES, Projection, on
from actionbus.projections.projector import Projector

__all__ = [
    "STATUSES",
    "Held",
    "Lagging",
    "NeedsRebuild",
    "NotOurs",
    "Projection",
    "ProjectionError",
    "Projections",
    "Projector",
    "Stopped",
    "StoreError",
    "StoreUnavailable",
    "UnknownProjection",
    "documents_at",
    "on",
]

if __name__ != "actionbus.projections":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.projections")
