"""Subscription, a durable position in the journal from which records are handed to code. Written by applications.

class Mails(Subscription):
    actions = ["place_order"]

    def handle(self, records):
        for record in records:
            send(record.result["order_id"])
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

from actionbus.core import Record
from actionbus.core.declare.given import is_text, shown
from actionbus.core.declare.mistyped import warn_of_mistyped
from actionbus.core.values.record import Kind
from actionbus.projections.fed import FedDeclaration, is_name
from actionbus.projections.shared_reading import WantedRecords

_KINDS: Final = frozenset({"submitted", "outcome", "bypass"})
_LARGEST: Final = 5_000


class Subscription(FedDeclaration):
    """Base of what follows the journal. The class name in snake_case is its name, unless `name` says otherwise."""

    actions: ClassVar[Sequence[str] | None] = None
    """Only records of these actions; None for all."""
    kinds: ClassVar[Collection[Kind]] = frozenset[Kind]({"outcome"})
    """Which records: of what came of actions, of what was asked, of writes past the gateway."""
    batch: ClassVar[int] = 500
    """Records handed over at once, at most."""

    def handle(self, records: Sequence[Record]) -> None:
        """Do something about some records, in the order of their positions; at least one.

        When it returns they are done with. Until then they may come again, with more or fewer at once: after an error,
        and after a process died. Whatever it raises is tried again with growing pauses, record by record; what goes on
        failing stops the subscription just before that record. NotImplementedError: it is not written.
        """
        raise NotImplementedError

    @classmethod
    def wanted(cls) -> WantedRecords:
        """Which records it wants: `actions` and `kinds`, for the reader."""
        return WantedRecords(None if cls.actions is None else frozenset(cls.actions), frozenset(cls.kinds))

    @classmethod
    def problems(cls, actions: Collection[str]) -> list[str]:
        """What is wrong with the declaration."""
        warn_of_mistyped(cls, Subscription)
        where = f"the subscription {cls.__module__}.{cls.__qualname__}"
        found = [] if is_name(cls.name) else [f"{where} has the name {cls.name!r}; use a-z, 0-9 and _"]
        if cls.handle is Subscription.handle:
            found.append(f"{where} has no handle(records)")
        if cls.actions is not None and not _are_texts(cls.actions):
            found.append(f"{where}: `actions` must be a list of names, or None for all, not {shown(cls.actions)}")
        else:
            found += [
                f"{where} wants the action {each!r}, which there is not"
                for each in cls.actions or ()
                if each not in actions
            ]
        if not cls.kinds or not _are_texts(cls.kinds) or not set(cls.kinds) <= _KINDS:
            found.append(f"{where}: `kinds` must be some of: {', '.join(sorted(_KINDS))}, not {shown(cls.kinds)}")
        if type(cls.batch) is not int or not 1 <= cls.batch <= _LARGEST:
            found.append(f"{where}: `batch` must be a whole number from 1 to {_LARGEST}, not {shown(cls.batch)}")
        return found


def _are_texts(given: Any) -> bool:
    is_several = isinstance(given, Collection) and not isinstance(given, (str, bytes, Mapping))
    return is_several and all(map(is_text, given))
