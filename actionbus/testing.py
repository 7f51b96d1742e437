"""The testing kit: `given(...).when(...).then(...)`; see docs/testing.md."""

from actionbus.adapters.testing import Given, HeldQueue, Scenario, Step, When, require_recorded

__all__ = ["Given", "HeldQueue", "Scenario", "Step", "When", "require_recorded"]
