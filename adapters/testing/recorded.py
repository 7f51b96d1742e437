"""Refuses, in tests, tables whose rows are not recorded: elsewhere a bus only warns of them."""

from __future__ import annotations

from actionbus.core import Bus, ConfigurationError
from actionbus.core.history.lookout import unrecorded
from actionbus.core.history.wanted import wanted_by


def require_recorded(bus: Bus) -> None:
    """See that every table of the application is recorded as it should be; call it where a test's tables are made.

    Raises ConfigurationError naming what is missing. `bus.create()` mends it; so does `op.record_history` in the
    migration that made the table or changed its columns, which is what production would lack.
    """
    wanted = wanted_by(bus.application, bus.engine.get_execution_options())
    with bus.backend.connection() as connection:
        found = unrecorded(bus.backend, connection, wanted)
    if found:
        raise ConfigurationError(
            [f"the rows of {each.table_name} are not recorded: {'; '.join(each.problems)}" for each in found]
            + ["call bus.create(), op.record_history(table) in the migration, or leave it out with unrecorded=[…]"]
        )
