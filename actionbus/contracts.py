"""What a Store, Broker or Backend of your own has to do, as tests; see docs/architecture.md. Needs pytest."""

from actionbus.adapters.testing.contracts import BackendContract, BrokerContract, StoreContract

__all__ = ["BackendContract", "BrokerContract", "StoreContract"]
