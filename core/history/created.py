"""Tables of an application that are created in a database with a journal are recorded from then on.

By `MetaData.create_all` and `Table.create`, of models that an Application was declared with: SQLAlchemy tells of it.
Tables that are there already are left alone, since to begin their history is to copy them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, MetaData, Table, event

from actionbus.core.declare.application import UNRECORDED
from actionbus.core.history.databases import database_of, is_known
from actionbus.core.history.lookout import MENDING, brief
from actionbus.core.history.wanted import wanted_of
from actionbus.core.storage.pooling import ACTING

log = logging.getLogger("actionbus")
LEFT_TO_CALLER: Final = "actionbus_left_to_caller"
"""The execution option of whoever creates tables and sees to their recording himself."""


def _all_created(metadata: MetaData, connection: Connection, *, tables: Sequence[Table], **_: Any) -> None:
    _record(metadata, connection, tables)


def _created(table: Table, connection: Connection, *, _is_metadata_operation: bool = False, **_: Any) -> None:
    if not _is_metadata_operation:
        _record(table.metadata, connection, [table])


def _record(metadata: MetaData, connection: Connection, tables: Sequence[Table]) -> None:
    """Put triggers on new tables, in the transaction that makes them. Never a reason for that to fail."""
    declared = metadata.info.get(UNRECORDED)
    if not tables or not declared or not isinstance(connection, Connection):  # one that only prints
        return
    options = connection.get_execution_options()
    if options.get(LEFT_TO_CALLER) or not is_known(connection):
        return
    if ACTING in connection.info:  # inside an action, of whose transaction nothing is to be a part of its own
        return
    left_out = set.intersection(*(set(each) for each in declared.values()))
    wanted = wanted_of(tables, left_out, options)
    try:
        database = database_of(connection)
        homes = database.looks.find_homes(connection)
        if wanted and homes:
            with database.looks.apart(connection):
                database.installs.install(connection, homes[0], wanted, baseline=False)
    except Exception as error:
        names = ", ".join(each.name for each in wanted)
        log.warning("%s: created, and not recorded: %s (%s)", names, brief(error), MENDING)


event.listen(MetaData, "after_create", _all_created)
event.listen(Table, "after_create", _created)
