"""Status: where a projection is, why, and what to do, for people, programs and metrics. Used by operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actionbus.core import Bus
from actionbus.core.storage.table import journal_table
from actionbus.projections.catalogue import Catalogue
from actionbus.projections.errors import StoreError, StoreUnsuitable
from actionbus.projections.ledger import Checkpoint
from actionbus.projections.projection import Projection
from actionbus.projections.verified import VerifiedIndex


@dataclass(frozen=True)
class Status:
    """One slice of one index. `lag_seconds` is the age of the oldest record not yet absorbed, `eta_seconds` the time
    that catching up will take at the latest rate (positions per second); None where nobody can tell."""

    projection: str
    index: str | None
    slice: str
    version: int
    code_version: int
    role: str
    """serving, kept (for a rollback), building, or left: the application has no projection of this name any more."""
    state: str
    """running, idle (nobody feeds it), stopped, waiting (for the store), held (at a hole), outdated, or new."""
    alive: bool
    position: int
    lag_positions: int
    """How many positions lie beyond; at most so many records are not yet absorbed."""
    lag_seconds: float
    rate: float | None
    eta_seconds: float | None
    detail: dict[str, Any]
    """`message` says why it is in its state and what to do; there is none where all is well."""
    verified: VerifiedIndex | None = None
    """What the last verification of this index found, if there was one."""

    @property
    def reason(self) -> str:
        """Why, in one of few words, as for a label: record, refused, rebuild, store, hole, version, unfed, differs (a
        verification found it wrong) or none."""
        for name, word in (("refused", "refused"), ("rebuild", "rebuild"), ("position", "record")):
            if self.state == "stopped" and self.detail.get(name):
                return word
        words = {"stopped": "store", "waiting": "store", "held": "hole", "outdated": "version", "idle": "unfed"}
        return words.get(self.state, "") or ("differs" if self._is_wrong else "")

    @property
    def _is_wrong(self) -> bool:
        return self.verified is not None and not self.verified.is_right

    @property
    def healthy(self) -> bool:
        """Whether no operator need look at it."""
        is_fed = self.alive and self.state in ("running", "held", "new")
        return self.role != "serving" or (is_fed and not self._is_wrong)


def statuses_of(bus: Bus, catalogue: Catalogue, projection: type[Projection]) -> Iterator[Status]:
    """The statuses of a projection; works while the store is away."""
    rows = catalogue.ledger.checkpoints(projection.name)
    verified = catalogue.verifications.all()
    last = bus.journal.last()
    away: StoreError | None = None
    try:
        served = catalogue.store.aliased(projection.name)
    except StoreError as error:
        away = error
        latest = max((row for row in rows if row.built), key=lambda row: (row.version, row.created), default=None)
        served = latest and latest.index_name
    if served not in {row.index_name for row in rows}:
        state, detail = _nothing_of_ours(catalogue, projection, rows, served, away)
        age = catalogue.ledger.age(journal_table(bus.backend.schema), 0, last)
        yield Status(
            projection.name,
            served,
            "1/1",
            projection.version,
            projection.version,
            "serving",
            state,
            False,
            0,
            last,
            age,
            None,
            None,
            detail,
        )
    for row in rows:
        lag = max(0, last - row.position)
        age = catalogue.ledger.age(journal_table(bus.backend.schema), row.position, last)
        role = "serving" if row.index_name == served else "kept" if row.built else "building"
        state, detail = _state(row, projection.version, role)
        found = verified.get(row.index_name)
        if found and not found.is_right and "message" not in detail:
            detail = {"message": f"{found.told}: `actionbus projections rebuild {projection.name}`", **detail}
        yield Status(
            projection.name,
            row.index_name,
            f"{row.slice}/{row.slices}",
            row.version,
            projection.version,
            role,
            state,
            row.alive,
            row.position,
            lag,
            age,
            row.rate,
            lag / row.rate if row.rate and lag else None,
            detail,
            found,
        )


def statuses_left(bus: Bus, catalogue: Catalogue) -> Iterator[Status]:
    """What is left of projections that the application has no more, and may hold what was erased since."""
    last = bus.journal.last()
    for name, rows in catalogue.left().items():
        for row in rows:
            message = (
                f"this application has no projection {name}, so nothing feeds what is left of it. If no other has it "
                f"either, `actionbus projections forget {name}` removes that"
            )
            yield Status(
                name,
                row.index_name,
                f"{row.slice}/{row.slices}",
                row.version,
                row.version,
                "left",
                row.state if row.alive else "idle",
                row.alive,
                row.position,
                max(0, last - row.position),
                0.0,
                row.rate,
                None,
                {"message": message},
            )


def _nothing_of_ours(
    catalogue: Catalogue,
    projection: type[Projection],
    rows: list[Checkpoint],
    served: str | None,
    away: StoreError | None,
) -> tuple[str, dict[str, Any]]:
    """The state, and why, where readers see nothing that this database feeds."""
    name, store = projection.name, catalogue.store.describe()
    if isinstance(away, StoreUnsuitable):
        return "stopped", {"message": str(away)}
    if away:
        return "waiting", {"message": f"{store} does not answer; it is tried again by itself: {away}"}
    if served:
        return "stopped", catalogue.stranger(projection, served).detail
    if any(row.built for row in rows):
        way_back = (
            f"`actionbus projections rebuild {name} --rollback` gives the name to the latest index that is there, "
            if any(row.built and catalogue.is_ours(projection, row.index_name) for row in rows)
            else "No index of it is there: "
        )
        message = (
            f"{store} has nothing of the name {name}, where readers look: the alias or the index was removed, or was "
            f"never in this store. {way_back}`actionbus projections rebuild {name}` makes a new one"
        )
        return "stopped", {"message": message, "rebuild": True}
    if stopped := next((row for row in rows if row.state == "stopped"), None):
        return "stopped", stopped.told
    return "new", {"message": "nobody has fed it yet: `actionbus projections run` makes its index"}


def _state(row: Checkpoint, code_version: int, role: str) -> tuple[str, dict[str, Any]]:
    """The state, and what is told of it."""
    detail, name = row.told, row.projection
    if row.version != code_version and row.built:
        message = (
            f"built by version {row.version}, the code says {code_version}: `actionbus projections rebuild {name}`"
        )
        return "outdated", {"message": message}
    if role == "building" and not row.alive:
        return _known(row), {"message": _building(row), **detail}
    if row.state == "stopped":
        return "stopped", detail
    if not row.alive:
        part = f" --slices {row.slice}/{row.slices}" if row.slices > 1 else ""
        feeds = f"nobody feeds it: `actionbus projections run {name}{part}` does"
        told = {key: value for key, value in detail.items() if key not in ("held_at", "waiting_for")}
        return _known(row), {"message": feeds, **told}
    if row.state == "waiting":
        waits = f"waits for the store, and goes on by itself when that answers: {detail.get('error', '')}"
        return "waiting", {"message": waits, **detail}
    return ("held" if "held_at" in detail else row.state), detail


def _known(row: Checkpoint) -> str:
    return row.state if row.state in ("stopped", "new") else "idle"


def _building(row: Checkpoint) -> str:
    return f"its rebuild was cut off: `actionbus projections rebuild {row.projection}` goes on with it"
