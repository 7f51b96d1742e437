"""Errors of projections and of the stores they write to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actionbus.core import ActionBusError
from actionbus.core.values.public import public

LONGEST_TOLD: Final = 4_000


def shortened(text: str) -> str:
    """The beginning and the end of what others say: a store quotes what it refuses, a reducer what it was given.

    It is kept, shown and written into the journal, so it may not be as long as a document.
    """
    if len(text) <= LONGEST_TOLD:
        return text
    head, tail = LONGEST_TOLD - 1_000, 900
    return f"{text[:head]}… {len(text) - head - tail:,} characters …{text[-tail:]}"


@public
class ProjectionError(ActionBusError):
    """Base of the errors of projections."""


@public
class UnknownProjection(ProjectionError):
    """No projection of the application has that name."""


@public
class Lagging(ProjectionError):
    """A projection did not reach a position in the time given."""


@public
class ProjectionStopped(ProjectionError):
    """A projection cannot go on by itself. `detail` says why, as `projections status` shows it."""

    def __init__(self, message: str, detail: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.detail = {"message": message, **(detail or {})}


@public
class NeedsRebuild(ProjectionStopped):
    """The index does not belong to what the journal says; only a rebuild makes it so."""


@public
class NotOurs(NeedsRebuild):
    """What readers see under a projection's name is of another journal or no projection's at all."""


@public
class ForeignWrites(NeedsRebuild):
    """Somebody else writes to the index."""


@public
class IndexBusy(ProjectionError):
    """Another process feeds the same index."""


@public
class StoreError(ProjectionError):
    """Base of what a store raises."""


@public
class StoreUnavailable(StoreError):
    """The store does not answer, or not yet: try again later. Nothing is lost meanwhile."""


@public
class IndexMissing(StoreError):
    """There is no such index."""


@public
class DocumentsRefused(StoreError):
    """The store took the other documents of a batch but not these; `refused` has (key, version, reason).

    `left_out` are those that it has already, as `Store.write_many` would return them.
    """

    def __init__(self, refused: list[tuple[str, int, str]], left_out: Sequence[Any] = ()) -> None:
        refused = [(key, version, shortened(reason)) for key, version, reason in refused]
        key, version, reason = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        super().__init__(f"the document {key!r} of record {version} was refused: {reason}{more}")
        self.refused, self.left_out = refused, left_out


@public
class StoreUnsuitable(StoreError):
    """What answers is no store that this can work with; the message says what it is, and what to do."""


@public
class StoreRefused(StoreError):
    """The store does not accept a request, and would not later either; the message has its reason."""


@public
class QueryRefused(StoreError):
    """A search that the store cannot run; the message says what is wrong with it."""
