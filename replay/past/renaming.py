"""What models say was renamed: recorded rows are read under the present names. Used by `replay.past.recorded`.

`Column(…, info={"renamed_from": "old"})`, `Table(…, info={"renamed_from": "old"})`, or a list of such names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Table

from actionbus.core.history.shapes import Shape
from actionbus.replay.past.words import last_name

INFO: Final = "renamed_from"


class Renaming:
    """The present names of what an application's tables and columns were called before."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables: dict[str, str] = {}
        self._columns: dict[str, dict[str, str]] = {}
        self._present: dict[str, set[str]] = {}
        for table in tables:
            self._present[table.name] = set(table.columns.keys())
            self._tables |= dict.fromkeys(_names(table.info), table.name)
            found = {old: column.name for column in table.columns for old in _names(column.info)}
            if found:
                self._columns[table.name] = found

    def __bool__(self) -> bool:
        return bool(self._tables or self._columns)

    def shape(self, shape: Shape) -> Shape:
        """A shape under the present names."""
        if not self:
            return shape
        bare = shape.bare
        schema = shape.table_name[: len(shape.table_name) - len(bare)]
        name = self._tables.get(bare, bare)
        known = self._columns.get(name, {})
        new = {old: now for old, now in known.items() if old in shape.columns and now not in shape.columns}
        columns, key = (tuple(new.get(each, each) for each in names) for names in (shape.columns, shape.key))
        return shape._replace(table_name=schema + name, columns=columns, key=key)

    def table(self, name: str) -> str:
        """A table's present name, as shapes have names."""
        bare = last_name(name)
        return name[: len(name) - len(bare)] + self._tables.get(bare, bare)


def _names(info: Mapping[Any, Any]) -> list[str]:
    told = info.get(INFO, ())
    return [told] if isinstance(told, str) else [str(each) for each in told]


NOTHING_RENAMED: Final = Renaming(())
