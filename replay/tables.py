"""Which tables are the application's. Used by sandboxes and snapshots."""

from __future__ import annotations

from sqlalchemy import Connection, MetaData, Table

from actionbus.core import Application

_OTHERS = ("journal", "alembic_version")
_OURS = "actionbus_"


def business_tables(application: Application, connection: Connection) -> list[Table]:
    """Those of its models, or all there are but the journal's and Alembic's; those that others refer to first."""
    models = application.models
    if models is None or not models.tables:
        models = MetaData()
        models.reflect(connection)
    return [each for each in models.sorted_tables if each.name not in _OTHERS and not each.name.startswith(_OURS)]
