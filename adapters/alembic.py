"""include_name keeps an application's Alembic from dropping what is actionbus's; for the application's `env.py`.

from actionbus.alembic import include_name

context.configure(connection=connection, target_metadata=Base.metadata, include_name=include_name)
"""

from __future__ import annotations

from typing import Final

from alembic import context
from alembic.runtime.environment import NameFilterParentNames, NameFilterType
from sqlalchemy import inspect

from actionbus.core.storage.ddl import VERSION_TABLE

_OWN: Final = ("actionbus_", "projection_words")
"""How names begin that are nobody else's; the second are of SQLite's full-text search."""
_IN_OUR_SCHEMA: Final = frozenset({"journal", "projection_indices", "projection_aliases", "projection_documents"})
"""Names that an application may use for tables of its own, in another schema."""


def include_name(name: str | None, type_: NameFilterType, parent_names: NameFilterParentNames) -> bool:
    """Whether a name in the database is to be compared with the application's models: False for actionbus's tables.

    In whichever schema the journal is. Call it from a hook of your own for what you leave out besides:
    `return include_name(name, type_, parent_names) and name not in mine`.
    """
    if type_ != "table" or name is None:
        return True
    if name.startswith(_OWN):
        return False
    return name not in _IN_OUR_SCHEMA or not _is_ours(parent_names.get("schema_name"))


def _is_ours(schema: str | None) -> bool:
    """Whether the journal is in this schema. Where nobody can be asked, it is: better a table too few than too many."""
    try:
        connection = context.get_bind()
    except (NameError, AttributeError):  # compared by a script: there is no env.py, or none any more
        return True
    return inspect(connection).has_table(VERSION_TABLE, schema=schema)
