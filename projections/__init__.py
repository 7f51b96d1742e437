"""Projections fold the journal into documents that can be searched: see docs/projections.md."""

from actionbus.projections.documents import documents_at
from actionbus.projections.errors import (
    DocumentsRefused,
    ForeignWrites,
    IndexBusy,
    IndexMissing,
    Lagging,
    NeedsRebuild,
    NotOurs,
    ProjectionError,
    ProjectionStopped,
    QueryRefused,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
    UnknownProjection,
)
from actionbus.projections.operations import Projections
from actionbus.projections.projection import STATUSES, Projection, on
from actionbus.projections.projector import Projector
from actionbus.projections.subscription import Subscription
from actionbus.projections.subscriptions import Subscriptions, SubscriptionStatus

__all__ = [
    "STATUSES",
    "DocumentsRefused",
    "ForeignWrites",
    "IndexBusy",
    "IndexMissing",
    "Lagging",
    "NeedsRebuild",
    "NotOurs",
    "Projection",
    "ProjectionError",
    "ProjectionStopped",
    "Projections",
    "Projector",
    "QueryRefused",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StoreUnsuitable",
    "Subscription",
    "SubscriptionStatus",
    "Subscriptions",
    "UnknownProjection",
    "documents_at",
    "on",
]

if __name__ != "actionbus.projections":
    raise ImportError(f"{__name__!r} is part of actionbus: import it as actionbus.projections")
