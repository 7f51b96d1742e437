"""The words of SQL statements: how a replay tells which tables and columns they name, rather too many than too few."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_WORD: Final = re.compile(r"[^\W\d][\w$]*")


def words_of(statements: Iterable[str]) -> set[str]:
    """All words of some statements: whatever may be a name."""
    return {word for statement in statements for word in _WORD.findall(statement)}


def last_name(table: str) -> str:
    """A table's name as statements have it, without its schema."""
    return table.rpartition(".")[2]


def named_in(tables: Iterable[str], words: set[str]) -> list[str]:
    """Those of the tables, by the names that their shapes have, that may be meant."""
    return [name for name in tables if set(_WORD.findall(last_name(name))) <= words]
