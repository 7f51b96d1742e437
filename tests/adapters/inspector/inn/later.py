"""The inn as a later release would be: prices are rounded to tens. So a verify finds where the code does otherwise now."""

from __future__ import annotations

from actionbus import Application, outside
from tests.adapters.inspector.inn.app import Checkpoint, Rates
from tests.adapters.inspector.inn.models import Base

later = Application(
    "inn",
    actions=["tests.adapters.inspector.inn.later_actions"],
    models=Base.metadata,
    dependencies={"checkpoint": Checkpoint, "rates": outside(Rates)},
    release="2026.12",
)
