"""Stops and skips: which records stopped projections, and which of them operators decided to leave out.

A decision is a `skip_record` in the journal, later than the record that it is about. Whoever folds asks `left_out`: the
feeder, a rebuild and its verification, and documents folded for a replay, so that they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy.orm import Session

from actionbus.core import Journal, Record
from actionbus.core.storage.pooling import ACTING
from actionbus.projections.ledger import Checkpoint, Ledger

DECISION: Final = "skip_record"
"""The action by which an operator decides."""


def with_decisions(actions: Sequence[str] | None) -> list[str] | None:
    """The actions that a projection wants to see, and the decisions on records besides; None for all."""
    return None if actions is None else [*actions, *({DECISION} - {*actions})]


def left_out(journal: Journal, projection: str, version: int, after: int = 0) -> set[int]:
    """The positions beyond `after` that one version of a projection goes on without.

    What was decided before history begins here was heard by whoever has read that far, and nobody else goes on.
    """
    after = after and max(after, journal.begins.position())
    decisions = journal.read(after, action=DECISION, status="succeeded", wait=False)
    return set(_positions(decisions, projection, version))


def _positions(decisions: Iterable[Record], projection: str, version: int) -> Iterable[int]:
    for decision in decisions:
        about = decision.result
        if (about["projection"], about["of_version"]) == (projection, version):
            yield about["position"]


class Stops:
    """What stopped projections, as their checkpoints tell inside an action's transaction."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection()
        self._ledger = Ledger(self._connection.info[ACTING].backend)

    def of(self, projection: str) -> list[Checkpoint]:
        """All checkpoints of a projection, stopped or not."""
        return self._ledger.checkpoints_on(self._connection, projection)


def projection_stops(session: Session) -> Stops:
    """Provider of `projection_stops`."""
    return Stops(session)
