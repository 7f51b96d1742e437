"""Positions on PostgreSQL: whether the next one lies above all others. Asked of each connection that is to write.

Sequences are replicated by no subscription and restored with no dump of data alone. A server that takes over after one
would begin at 1 again: its records collide with others, or land in holes that readers have passed, who never see them.

Why one look at a new connection is enough, and never refuses a journal that is in order:

1. A position is drawn before its record can be seen, and looking at a sequence is under no snapshot. So where records
   are made by drawing, the sequence is at or beyond the last record of the statement's snapshot, which is older. A
   crash keeps that true, since what the sequence logged lies before the commit of the record (`storage.reader`, 5).
2. After the look only those who draw add records, all above it: while there is a subscription, whose records were drawn
   elsewhere, nothing is written at all. A server that takes over is met on new connections alone.
3. The look changes nothing, so that nobody has to agree with anybody. Setting the sequence is left to an operator, and
   takes a right on it that no application needs: it must be done after the subscription was dropped, which only he
   knows, and before anybody draws, which the refusal sees to.
"""

from __future__ import annotations

from typing import Any, Final

from actionbus.core.errors import JournalUnavailable
from actionbus.core.storage.names import quoted

_TAKE_OVER: Final = "to let this server take over, drop the subscription and then run {statement}"
_SUBSCRIBED: Final = "this journal is filled by logical replication, in the order in which transactions committed; "
_HOME: Final = """
    SELECT nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = pg_catalog.to_regclass('journal')
"""
_LOOK: Final = """
    SELECT coalesce(pg_catalog.pg_sequence_last_value(%(sequence)s::regclass), 0) >= coalesce(max(position), 0),
        EXISTS (SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = %(journal)s::regclass)
    FROM """


def find_home(cursor: Any) -> str | None:
    """The schema where the journal is found; None if there is no journal."""
    cursor.execute(_HOME)
    found = cursor.fetchone()
    return str(found[0]) if found else None


def see_that_it_draws_above(cursor: Any, home: str) -> None:
    """Raises JournalUnavailable where a position could be given twice, or below one that readers have passed.

    `home` is the journal's schema; `cursor` a driver's.
    """
    journal = f"{quoted(home)}.journal"
    values = {"sequence": f"{quoted(home)}.journal_position_seq", "journal": journal}
    cursor.execute(_LOOK + journal.replace("%", "%%"), values)
    is_above, is_subscribed = cursor.fetchone()
    if is_subscribed:
        raise JournalUnavailable(f"{_SUBSCRIBED}nothing was run; {_take_over(home)}")
    if not is_above:
        raise JournalUnavailable(
            "the journal's sequence is behind its records, as after logical replication or a restore of data alone, so "
            f"that positions would be given a second time; nothing was run: somebody who may has to run {setting(home)}"
        )


def refused_to_read(home: str | None) -> JournalUnavailable:
    """What a reader of a subscriber is told."""
    return JournalUnavailable(
        f"{_SUBSCRIBED}so that a reader would skip records; read from the publisher ({_take_over(home)})"
    )


def setting(home: str | None) -> str:
    """The statement that puts the next position above all others."""
    prefix = f"{quoted(home)}." if home else ""
    return f"SELECT setval({sequence(prefix)}, max(position)) FROM {prefix}journal"


def sequence(prefix: str) -> str:
    """The sequence of positions as SQL takes it for a `regclass`."""
    name = f"{prefix}journal_position_seq".replace("'", "''")
    return f"'{name}'"


def _take_over(home: str | None) -> str:
    return _TAKE_OVER.format(statement=setting(home))
