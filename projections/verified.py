"""What verifications found, for status and metrics: the last of each index, in the table `actionbus_verifications`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Double, MetaData, Table, Text, delete, insert, select

from actionbus.core.storage.backend import Backend

_TYPES: Final[dict[str, Any]] = {
    "verified_at": Double,
    "position": BigInteger,
    "is_whole": Boolean,
    "documents": BigInteger,
    "differences": BigInteger,
}


@dataclass(frozen=True, slots=True)
class VerifiedIndex:
    """An index was compared with a fold of the journal."""

    index_name: str
    projection: str
    verified_at: float
    """Seconds since 1970."""
    position: int
    """Up to which the journal was folded for it."""
    is_whole: bool
    """Whether all documents were compared, or a sample of them."""
    documents: int
    """How many were compared."""
    differences: int
    """How many of them are missing, surplus, or differ."""
    problem: str | None
    """What is wrong with the index in all, such as the number of its documents."""

    @property
    def is_right(self) -> bool:
        """Whether no document differs, and nothing kept it from being seen."""
        return not self.differences and not self.problem

    @property
    def told(self) -> str:
        """When and what was found, in words."""
        at = datetime.fromtimestamp(self.verified_at, UTC).isoformat(timespec="seconds")
        of = f"{self.documents} documents" if self.is_whole else f"a sample of {self.documents} documents"
        what = f"{self.differences} of {of} differ from the journal" if self.differences else self.problem
        return f"verified at {at}, up to position {self.position}: {what or f'{of}, none of which differs'}"


_FIELDS: Final = [field.name for field in fields(VerifiedIndex)]


class Verifications:
    """Reads and writes them, of one database."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        columns = (Column(name, _TYPES.get(name, Text)) for name in _FIELDS)
        self._table = Table("actionbus_verifications", MetaData(schema=backend.schema), *columns)

    def all(self) -> dict[str, VerifiedIndex]:
        """The last of each index, by its name."""
        found = self._backend.read(lambda connection: connection.execute(select(*self._table.c)).all())
        return {row.index_name: VerifiedIndex(*tuple(row)) for row in found}

    def put(self, verified: VerifiedIndex) -> None:
        """Note one in the place of that before."""
        with self._backend.engine.begin() as connection, self._backend.placed(connection):
            connection.execute(delete(self._table).where(self._table.c.index_name == verified.index_name))
            connection.execute(insert(self._table).values(asdict(verified)))

    def forget(self, index: str) -> None:
        """The index is no more."""
        with self._backend.engine.begin() as connection, self._backend.placed(connection):
            connection.execute(delete(self._table).where(self._table.c.index_name == index))
