"""The testing kit: `given(...).when(...).then(...)`; see docs/testing.md."""

from actionbus.adapters.testing import Given, HeldBroker, Scenario, Step, When, require_recorded

__all__ = ["Given", "HeldBroker", "Scenario", "Step", "When", "require_recorded"]
