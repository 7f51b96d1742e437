"""Projections fold the journal into documents that can be searched: see docs/projections.md."""

from projections.errors import (
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
from projections.operations import Projections
from projections.projection import Projection, on
from projections.projector import Projector

__all__ = [
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
    "on",
]
