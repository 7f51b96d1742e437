"""Tables with the names of ours where a name that is not qualified would find them: temporary ones, another schema's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event

from actionbus import Bus

OURS = (
    "journal",
    "actionbus_runs",
    "actionbus_queues",
    "actionbus_unique",
    "actionbus_ticks",
    "actionbus_dead_letters",
    "actionbus_identity",
    "actionbus_incarnation",
    "actionbus_checkpoints",
    "actionbus_pauses",
    "actionbus_verifications",
    "actionbus_version",
)
OF_THE_STORE = ("projection_indices", "projection_aliases", "projection_documents", "projection_words")


def lead_astray(bus: Bus) -> None:
    """From now on each connection of the bus finds tables of no use before ours: on PostgreSQL by its search path."""
    is_sqlite = bus.engine.dialect.name == "sqlite"
    if not is_sqlite:
        _make_schema(bus.engine)
        assert bus.journal.last() == 0, "it has seen where the journal is"

    def connected(dbapi: Any, _record: Any) -> None:
        if is_sqlite:
            for name in (*OURS, *OF_THE_STORE):
                dbapi.execute(f"CREATE TEMP TABLE {name} (decoy)")
        else:
            dbapi.cursor().execute("SET search_path = decoys, public")
            dbapi.commit()

    event.listen(bus.engine, "connect", connected)
    bus.backend.renew_pool()


def _make_schema(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA decoys")
        for name in OURS:
            connection.exec_driver_sql(f"CREATE TABLE decoys.{name} (decoy int)")
