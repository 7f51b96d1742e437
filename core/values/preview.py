"""Preview: what an action would do, as `ActionRunner.preview` found out. Nothing of it was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actionbus.core.values.change import Change
from actionbus.core.values.public import public
from actionbus.core.values.record import Outcome


@public
@dataclass(frozen=True, slots=True)
class Preview:
    """What would come of an action."""

    outcome: Outcome
    """Its status, result and error; its position is 0, since no record has it."""
    changes: list[Change]
    """What it, and actions nested in it, would do to rows; of one that would not succeed nothing."""
    queued: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Actions that it would queue, and their arguments as their records would have them."""
    refused: tuple[str, ...] = ()
    """Outside calls that it tried and that were refused, so that what it would really do may be something else."""
    unrecorded: tuple[str, ...] = ()
    """Tables whose changes are not recorded as they should be, and so may be missing here."""
