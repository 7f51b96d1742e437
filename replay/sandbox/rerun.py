"""What comes of running an action again. Made by the sandbox; compared and told by all others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actionbus.core.storage.rows import Row
from actionbus.replay.past.nets import Net
from actionbus.replay.sandbox.clocks import asks
from actionbus.replay.sandbox.transaction import SandboxTransaction


@dataclass(slots=True)
class Rerun:
    """What came of running an action again: the rows that its journal would have got, and what else is known."""

    outcome: Row
    nested: list[Row]
    error: BaseException | None
    statements: list[str]
    unplayable: list[str]
    stood_in: bool
    redacted: bool
    bound: list[Any]
    """The times that it handed to the database."""
    made_on_update: list[Any]
    """Those of them that columns' own functions made, for rows that were updated."""
    nets: list[Net]
    """What it made of rows; of one that did not succeed nothing."""
    last_image: int
    """The number of the last image of these."""
    changes: list[tuple[int, Net]] = field(default_factory=list)
    """Where others committed meanwhile: each change that it made of a row, by the number of its statement."""
    transaction: SandboxTransaction | None = field(default=None, repr=False)

    @property
    def asks_clock(self) -> bool:
        """Whether it asks the database what time it is, or writes what the database says of that."""
        return bool(self.made_on_update) or any(map(asks, self.statements))

    @property
    def succeeded(self) -> bool:
        """Whether its writes are to be kept."""
        return self.outcome.status == "succeeded"
