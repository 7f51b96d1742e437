"""`include_name`, for the `env.py` of an application with an Alembic history of its own; see docs/migrations.md."""

from actionbus.adapters.alembic import include_name

__all__ = ["include_name"]
