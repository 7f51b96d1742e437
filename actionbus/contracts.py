"""What a Store, Queue or Backend of your own has to do, as tests; see docs/architecture.md. Needs pytest."""

from actionbus.adapters.testing.contracts import BackendContract, QueueContract, StoreContract

__all__ = ["BackendContract", "QueueContract", "StoreContract"]
