"""Belonging: whether an index is of the journal that there is now. Asked before it is fed, served or alone kept.

After the journal's database was restored from an older state, or made anew, an index may hold what never happened.
"""

from __future__ import annotations

from actionbus.core import Bus
from actionbus.projections.errors import IndexMissing
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.store import Store


def why_not(bus: Bus, store: Store, ledger: Ledger, row: Checkpoint) -> str | None:
    """Why the index of a checkpoint is not what that and the journal say; None if it is."""
    name = row.index_name
    try:
        info = store.info(name)
    except IndexMissing:
        return f"the index {name} is not in {store.describe()}; if that is not where it was, say where"
    if info.journal != bus.journal.identity():
        return f"the index {name} was fed from another journal"
    last, reached = bus.journal.last(), max(row.position, row.writing_to)
    if reached > last:
        return (
            f"the checkpoint of {name} is at {reached}, but the journal ends at {last}: it was restored or lost records"
        )
    highest = max(store.highest_version(name), info.pruned_to)
    # Every slice writes to the same index.
    known = max(max(each.position, each.writing_to) for each in ledger.checkpoints(index=name))
    if highest > known:
        return (
            f"the index {name} holds documents up to position {highest}, but its checkpoint only knows of {known}: "
            "the journal's database was restored from an older state"
        )
    return None
