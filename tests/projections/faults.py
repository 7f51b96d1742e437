"""Faults at every step: wrappers that count the calls to a store and a ledger, and break one before or after it acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

from sqlalchemy.exc import OperationalError

from actionbus import Bus
from actionbus.projections import Projections, Projector
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.errors import StoreUnavailable
from actionbus.projections.ledger import Ledger
from actionbus.projections.projection import Projection
from actionbus.projections.store import Store

When = Literal["before", "after"]
Break = Callable[[Exception], None]


def fail(error: Exception) -> None:
    """Break by raising what a lost connection raises."""
    raise error


class Faults:
    """Breaks call number `at`, or the first of the method called `at`; 0 breaks none."""

    def __init__(self, at: int | str, when: When, breaking: Break = fail) -> None:
        self._at, self._when, self._break = at, when, breaking
        self.calls: list[str] = []
        self.happened = False

    def around(self, name: str, act: Callable[[], Any], error: Exception) -> Any:
        """Make a call, or break it."""
        self.calls.append(name)
        is_it = not self.happened and self._at in (name, len(self.calls))
        self.happened = self.happened or is_it
        if is_it and self._when == "before":
            self._break(error)
        answer = act()
        if is_it and self._when == "after":
            self._break(error)
        return answer


class _Faulty:
    """Something whose methods break."""

    def __init__(self, target: object, faults: Faults, error: Callable[[], Exception]) -> None:
        self._target, self._faults, self._error = target, faults, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found
        return lambda *given, **named: self._faults.around(name, lambda: found(*given, **named), self._error())


def faulty_store(store: Store, faults: Faults) -> Store:
    """A store whose calls break."""
    return cast("Store", _Faulty(store, faults, lambda: StoreUnavailable("no answer")))


def projector(
    bus: Bus, store: Store, faults: Faults, *projections: type[Projection], part: int = 1, parts: int = 1
) -> Projector:
    """A projector between which and its store and ledger calls break."""
    names = [projection.name for projection in projections] or None
    made = Projector(bus, faulty_store(store, faults), names, part=part, parts=parts)
    made.catalogue.ledger = _faulty_ledger(made.catalogue, faults)
    return made


def faulty_operations(bus: Bus, store: Store, faults: Faults) -> Projections:
    """What operators ask for, with the same."""
    made = Projections(bus, faulty_store(store, faults))
    made._catalogue.ledger = _faulty_ledger(made._catalogue, faults)
    return made


def _faulty_ledger(catalogue: Catalogue, faults: Faults) -> Ledger:
    return cast("Ledger", _Faulty(catalogue.ledger, faults, lambda: OperationalError("no answer", {}, Exception())))
