"""The testing kit: `given(...).when(...).then(...)`; see docs/testing.md."""

from actionbus.adapters.testing import Given, HeldQueue, Scenario, Step, When

__all__ = ["Given", "HeldQueue", "Scenario", "Step", "When"]
