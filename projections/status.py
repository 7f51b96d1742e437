"""Status: where a projection is, for people, programs and metrics. Used by operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actionbus.core import Bus
from actionbus.core.storage.table import journal_table
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.errors import StoreError
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.projection import Projection


@dataclass(frozen=True)
class Status:
    """One slice of one index. `lag_seconds` is the age of the oldest record not yet absorbed, `eta_seconds` the time
    that catching up will take at the rate of late (records per second); None where nobody can tell."""

    projection: str
    index: str | None
    slice: str
    version: int
    code_version: int
    role: str
    """serving, kept (for a rollback) or building."""
    state: str
    """running, idle (nobody feeds it), stopped, waiting (for the store), held (at a hole), outdated, or new."""
    alive: bool
    position: int
    lag_records: int
    lag_seconds: float
    rate: float | None
    eta_seconds: float | None
    detail: dict[str, Any]

    @property
    def healthy(self) -> bool:
        """Whether no operator need look at it."""
        return self.role != "serving" or (self.alive and self.state in ("running", "held", "new"))


def status_of(bus: Bus, catalogue: Catalogue, projection: type[Projection]) -> Iterator[Status]:
    """The statuses of a projection; works while the store is away."""
    rows = catalogue.ledger.checkpoints(projection.name)
    last = bus.journal.last()
    try:
        served = catalogue.store.aliased(projection.name)
    except StoreError:
        served = max((row.index_name for row in rows if row.built), default=None)
    if served not in {row.index_name for row in rows}:
        count, age = catalogue.ledger.lag(journal_table(bus.backend.schema), 0, last)
        state, detail = ("stopped", catalogue.stranger(projection, served).detail) if served else ("new", {})
        yield Status(projection.name, served, "1/1", projection.version, projection.version, "serving", state, False,
                     0, count, age, None, None, detail)  # fmt: skip
    for row in rows:
        count, age = catalogue.ledger.lag(journal_table(bus.backend.schema), row.position, last)
        state, detail = _state(row, projection.version)
        role = "serving" if row.index_name == served else "kept" if row.built else "building"
        yield Status(
            projection.name, row.index_name, f"{row.slice}/{row.slices}", row.version, projection.version, role, state,
            row.alive, row.position, count, age, row.rate, count / row.rate if row.rate and count else None, detail,
        )  # fmt: skip


def _state(row: Checkpoint, code_version: int) -> tuple[str, dict[str, Any]]:
    detail = row.told
    if row.version != code_version and row.built:
        return "outdated", {"message": f"built by version {row.version}, the code says {code_version}: rebuild it"}
    if row.state == "stopped" or not row.alive:
        return (row.state if row.state in ("stopped", "new") else "idle"), detail
    return ("held" if "held_at" in detail else row.state), detail
