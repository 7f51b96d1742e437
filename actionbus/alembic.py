"""For the `env.py` of an application with an Alembic history of its own, and its migrations; see docs/migrations.md."""

from actionbus.adapters.alembic import include_name
from actionbus.adapters.alembic_operations import renew_history

__all__ = ["include_name", "renew_history"]
