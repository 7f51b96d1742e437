"""The testing kit for applications: `given(...).when(...).then(...)` over actions, on a throwaway database.

`pip install actionbus` brings it to pytest by itself (`actionbus.pytest_plugin`); docs/testing.md shows it.
"""

from actionbus.adapters.testing.broker import HeldBroker
from actionbus.adapters.testing.recorded import require_recorded
from actionbus.adapters.testing.scenario import Given, Scenario, Step, When

__all__ = ["Given", "HeldBroker", "Scenario", "Step", "When", "require_recorded"]
