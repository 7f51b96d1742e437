"""Records as the table gives them: chosen by SQL, decoded, personal values in clear. Used by `core.journal` alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import CompoundSelect, Connection, Select, select

from actionbus.core.errors import JournalUnavailable
from actionbus.core.secrecy.personal import INSTALL, keys_in, opened
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.row_decoding import RowDecoder, columns_to_read, fetch
from actionbus.core.storage.subject_keys import secrets_of
from actionbus.core.storage.table import COLUMNS, FORMAT, SEALED, journal_table
from actionbus.core.values.record import Record, Teller

_PERSONAL: Final = ("context", "arguments", "result", "error", "calls")
"""Fields of a record in which personal values may be encrypted."""
_KEYS_KNOWN: Final = 500

_FORMAT: Final = COLUMNS.index("format")

Known = dict[str, str | None]
"""Keys of subjects that were looked up a moment ago."""


class Records:
    """Reads the journal's table of one database."""

    def __init__(self, backend: Backend, teller: Teller) -> None:
        self._backend = backend
        self.table = journal_table(backend.schema)
        self.decode = RowDecoder(backend.utc, teller)

    def select(self) -> Select[Any]:
        """All columns of all records."""
        return select(*columns_to_read(self.table))

    def fetch(
        self, statement: Select[Any] | CompoundSelect[Any], connection: Connection | None = None, *, opened: bool = True
    ) -> list[Record]:
        """The records of a statement over `columns_to_read`; personal values stay encrypted with `opened=False`."""
        rows = self._backend.read(lambda used: fetch(used, statement), connection)
        found = map(self.decode, rows)
        return list(self.in_clear(found, connection) if opened else found)

    def rows_in_clear(self, rows: Iterable[Sequence[Any]]) -> Iterator[Record]:
        """Rows as records, each as soon as it comes."""
        return self.in_clear(map(self.decode, rows))

    def lazily(self, rows: Sequence[Sequence[Any]]) -> list[Record]:
        """The same, of which nothing is decoded that nobody asks for."""
        made, source, known = Record.of_row, self.decode, Known()
        found = [made(row, source) for row in rows]
        for place in [place for place, row in enumerate(rows) if row[_FORMAT] == SEALED]:
            found[place] = self._opened(found[place], known, None)
        return found

    def in_clear(self, records: Iterable[Record], connection: Connection | None = None) -> Iterator[Record]:
        """The same records, with their personal values decrypted."""
        known: Known = {}
        for record in records:
            yield record if record.format != SEALED else self._opened(record, known, connection)

    def _opened(self, record: Record, known: Known, connection: Connection | None) -> Record:
        columns = {name: getattr(record, name) for name in _PERSONAL}
        if len(known) > _KEYS_KNOWN:  # lest a long reading goes on with keys that were deleted since
            known.clear()
        if wanted := set(keys_in(list(columns.values()))) - known.keys():
            known |= secrets_of(self._backend, wanted, connection)
        try:
            found = {name: _open(record, name, each, known) for name, each in columns.items()}
        except ValueError as why:
            raise JournalUnavailable(
                f"the record at position {record.position} cannot be read: {why}; read on with after={record.position}"
            ) from None
        except ImportError:
            raise JournalUnavailable(
                f"the record at position {record.position} has personal values; to read them takes {INSTALL}"
            ) from None
        return record.replaced(**found, format=FORMAT)


def _open(record: Record, column: str, value: Any, known: Known) -> Any:
    place = f"{record.action_id.hex}/{column}"
    if column != "arguments":
        return opened(value, known, place)
    return {name: opened(each, known, f"{place}/{name}") for name, each in value.items()}
