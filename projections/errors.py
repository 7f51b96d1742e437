"""Errors of projections and of the stores they write to."""

from __future__ import annotations

from actionbus.core import ActionBusError


class ProjectionError(ActionBusError):
    """Base of the errors of projections."""


class UnknownProjection(ProjectionError):
    """No projection of the application has that name."""


class Lagging(ProjectionError):
    """A projection did not reach a position in the time given."""


class Stopped(ProjectionError):
    """A projection cannot go on by itself. `detail` says why, as `projections status` shows it."""

    def __init__(self, message: str, detail: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.detail = {"message": message, **(detail or {})}


class NeedsRebuild(Stopped):
    """The index does not belong to what the journal says; only a rebuild makes it so."""


class NotOurs(NeedsRebuild):
    """What readers see under a projection's name is of another journal or no projection's at all."""


class Held(ProjectionError):
    """Another process feeds the same index."""


class StoreError(ProjectionError):
    """Base of what a store raises."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not yet: try again later. Nothing is lost meanwhile."""


class IndexMissing(StoreError):
    """There is no such index."""


class DocumentsRefused(StoreError):
    """The store took the other documents of a batch but not these; `refused` has (key, version, reason)."""

    def __init__(self, refused: list[tuple[str, int, str]]) -> None:
        key, version, reason = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        super().__init__(f"the document {key!r} of record {version} was refused: {reason}{more}")
        self.refused = refused


class StoreRefused(StoreError):
    """The store does not accept a request, and would not later either; the message has its reason."""


class QueryRefused(StoreError):
    """A search that the store cannot run; the message says what is wrong with it."""
