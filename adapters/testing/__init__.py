"""The testing kit for applications: `given(...).when(...).then(...)` over actions, on a throwaway database.

`pip install actionbus` brings it to pytest by itself (`adapters.testing.plugin`); docs/testing.md shows it.
"""

from adapters.testing.queue import HeldQueue
from adapters.testing.scenario import Given, Scenario, Step, When

__all__ = ["Given", "HeldQueue", "Scenario", "Step", "When"]
