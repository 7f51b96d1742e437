"""Belonging: whether an index is of the journal that there is now. Asked before it is fed, served or alone kept.

After the journal's database was restored from an older state, or made anew, an index may hold what never happened.
"""

from __future__ import annotations

from actionbus.core import Bus
from actionbus.projections.errors import IndexMissing
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.store import IndexInfo, Store


def why_not(bus: Bus, store: Store, ledger: Ledger, row: Checkpoint) -> str | None:
    """Why the index of a checkpoint is not what that and the journal say; None if it is."""
    name = row.index_name
    try:
        info = store.info(name)
    except IndexMissing:
        return f"the index {name} is not in {store.describe()}; if that is not where it was, say where"
    if info.journal != bus.journal.identity():
        return f"the index {name} was fed from another journal"
    if why := not_of_this_database(store, ledger, info):
        return why
    if row.alarm:
        return row.alarm
    if not info.is_durable:
        return (
            f"the index {name} may lose in a crash what it has acknowledged: its setting index.translog.durability is "
            "async, and must be request"
        )
    last, reached = bus.journal.last(), max(row.position, row.writing_to)
    if reached > last:
        return (
            f"the checkpoint of {name} is at {reached}, but the journal ends at {last}: it was restored or lost records"
        )
    # Every slice writes to the same index. Read first: what is written meanwhile makes it greater.
    least = max(each.highest for each in ledger.checkpoints(index=name))
    highest = max(store.totals(name).highest, info.pruned_to)
    if highest < least:
        return (
            f"the index {name} has fallen behind: it took documents up to position {least} and has none beyond "
            f"{highest}, as after it was restored from an older state or lost what it had acknowledged"
        )
    known = max(max(each.position, each.writing_to) for each in ledger.checkpoints(index=name))
    if highest > known:
        return (
            f"the index {name} holds documents up to position {highest}, but its checkpoint only knows of {known}: "
            "the journal's database was restored from an older state"
        )
    return None


def not_of_this_database(store: Store, ledger: Ledger, info: IndexInfo) -> str | None:
    """Why an index of this journal is not fed from this database, which may be a copy; None if it is."""
    if not store.is_apart or info.incarnation == ledger.incarnation.read():
        return None
    what = (
        "this database is a copy of the one that feeds it, such as one restored from a dump"
        if info.incarnation == ledger.incarnation.copied_from()
        else "it was fed from another database with this journal, of which this one or that is a copy"
    )
    return (
        f"the index {info.name} is not of this database: {what}. Give this application a prefix "
        "(ACTIONBUS_ELASTICSEARCH_PREFIX) of its own, or, if the other database is no more, add --take-over"
    )


def why_not_whole(store: Store, ledger: Ledger, row: Checkpoint) -> str | None:
    """Why an index cannot hold what was written to it, by its number of documents and the sum of their versions.

    None as well where that is not known: while another slice is at work, and after a document was refused.
    """
    before = ledger.checkpoints(index=row.index_name)
    found = store.totals(row.index_name)
    after = ledger.checkpoints(index=row.index_name)
    if [_counted(each) for each in before] != [_counted(each) for each in after]:
        return None
    if not all(each.is_at_rest for each in after) or any(None in (each.documents, each.versions) for each in after):
        return None
    documents = sum(each.documents or 0 for each in after)
    versions = sum(each.versions or 0 for each in after)
    if found.documents != documents:
        return f"the index {row.index_name} has {found.documents} documents, and {documents} were written to it"
    # Elasticsearch sums in floating point, which is exact up to 2**53.
    if abs(found.versions - versions) > (0 if versions < 2**53 else versions * 1e-12):
        return f"documents of the index {row.index_name} are not as they were written last: some are older or newer"
    return None


def _counted(row: Checkpoint) -> tuple[object, ...]:
    return row.slice, row.position, row.writing_to, row.documents, row.versions
