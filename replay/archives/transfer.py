"""A journal out of its database and into another: `actionbus journal export` and `import`.

JSON lines, compressed: first what the file is, then a line per record with every column, its seed and snapshot
included, so that what is imported replays as the original does. Secrets are redacted already. Personal values stay
encrypted, and the keys that there are for them come along (`history.carrying_privacy`), so that they can be erased
there too. With the row history come what is declared personal, the erasures, its shapes, and a list for each image:
number, shape, operation, key, and on PostgreSQL the row before and after as texts, the action named and the
transaction; on SQLite the time, and of each column the value before and after.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from actionbus.core import Bus, History, Journal, Record
from actionbus.core.history import carrying
from actionbus.core.history.carrying_archives import bring_gone, gone_of
from actionbus.core.history.carrying_privacy import bring, keys_of, privacy_of
from actionbus.core.secrecy.personal import keys_in
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.ddl import LATEST
from actionbus.core.storage.drivers import driver_connection, driver_error
from actionbus.core.storage.names import in_text
from actionbus.core.storage.table import COLUMNS, PAYLOADS, SEALED, TIMES, identity_table, journal_table
from actionbus.core.values import payload
from actionbus.replay.archives.lines import FORMAT, NumberedLines, kind_of
from actionbus.replay.errors import ReplayError

_BATCH: Final = 500
_TYPES: Final = {
    **dict.fromkeys(("position", "xid", "duration_us", "images_after", "images_upto"), "bigint"),
    **dict.fromkeys(("action_id", "cause_id"), "uuid"),
    **dict.fromkeys(PAYLOADS, "json"),
    **dict.fromkeys(TIMES, "timestamptz"),
    "handler_version": "integer",
    "format": "smallint",
}
"""Of the journal's columns on PostgreSQL, those that are no text."""
_INTEGERS: Final = frozenset({"bigint", "integer", "smallint"})
_LATE: Final = 300
"""So many of the last values met are looked for as words of longer texts too, such as messages of errors."""
Progress = Callable[[], None]


def export(
    journal: Journal,
    path: Path,
    *,
    after: int = 0,
    upto: int | None = None,
    pseudonymize: Sequence[str] = (),
    history: History | None = None,
    with_keys: bool = True,
    progress: Progress | None = None,
) -> int:
    """Write the records of a range to a file, which is complete or not there; how many there are.

    With `history` their row images go along; for that the range has to begin at the start.

    The values of the fields named in `pseudonymize` are replaced wherever they occur, each by the same made-up one,
    with a key that is thrown away; all other personal values are in clear. Handlers that sort by
    such values, cut them or put them together may come out otherwise than recorded. A row history cannot go along.
    Without `with_keys` nobody can read the personal values in the file, but where the keys are.
    """
    if history is not None and (after or pseudonymize):
        raise ReplayError(
            "the row history of a range that begins later, or under made-up values, cannot be told from what is "
            "exported; leave it out (--without-history)"
        )
    pseudonyms = Pseudonyms(pseudonymize) if pseudonymize else None
    end = upto if upto is not None else journal.settled()
    head = {
        "format": FORMAT,
        "journal": journal.identity(),
        "dialect": journal.dialect,
        "schema": LATEST,
        "after": after,
        "upto": end,
        "exported_at": datetime.now(UTC).isoformat(),
        "pseudonymized": sorted(pseudonymize),
        "history": history is not None,
        "gone": [] if after else gone_of(journal.backend),
    }
    handle, name = tempfile.mkstemp(dir=path.parent or Path(), suffix=".tmp")
    os.close(handle)
    count = 0
    try:
        with gzip.open(name, "wt", encoding="ascii", compresslevel=6) as file:
            file.write(payload.dumps(head) + "\n")
            keys: set[str] = set()
            for told in _records(journal, after, end, history, keys if pseudonyms is None else None):
                file.write(payload.dumps(pseudonyms.replace(told) if pseudonyms else told) + "\n")
                count += 1
                if progress:
                    progress()
            for line in keys_of(journal.backend, keys if with_keys else ()):
                file.write(payload.dumps(line) + "\n")
            for line in _history_lines(history, end) if history else ():
                file.write(payload.dumps(line) + "\n")
                if progress:
                    progress()
        Path(name).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    return count


def _records(
    journal: Journal, after: int, end: int, history: History | None, keys: set[str] | None
) -> Iterator[dict[str, Any]]:
    """As they stand in the table, adding to `keys` those with which they are encrypted; without it, in clear."""
    records = journal.read(after, upto=end) if keys is None else journal.as_stored(after, upto=end)
    while batch := list(islice(records, _BATCH)):
        ranges = history.ranges(batch[0].position, batch[-1].position) if history else {}
        for record in batch:
            if keys is not None and record.format == SEALED:
                keys.update(keys_in([getattr(record, name) for name in PAYLOADS]))
            named = ranges.get(record.position)
            yield _written(record) | (dict(zip(("images_after", "images_upto"), named, strict=True)) if named else {})


def _history_lines(history: History, end: int) -> Iterator[Any]:
    # After the records: of what no record covered when the journal was read, nothing may be covered by one that is
    # missing in the file.
    with history.opened(end) as opened:
        yield from privacy_of(opened)
        yield from carrying.shapes_of(opened)
        yield from carrying.images_of(opened)


def import_into(bus: Bus, path: Path, progress: Progress | None = None, *, history: bool = True) -> int:
    """Read a file into a journal that is empty, which takes the identity of the exported one; how many records.

    The row history that it holds comes along, unless `history` is false. All or nothing. Raises ReplayError for a
    journal that is not empty, a wrong file, one that is cut off, or a row history that does not go into this database.
    """
    lines = NumberedLines(path, progress)
    try:
        return _import(bus, lines, history=history)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise _not_so(path, lines.number, f"{type(error).__name__}: {error}") from error
    except Exception as error:
        driver, told = bus.engine.dialect.loaded_dbapi, driver_error(error)
        if not isinstance(told, (driver.IntegrityError, driver.DataError, driver.ProgrammingError)):
            raise
        raise _not_so(path, lines.number, f"the database refused it: {str(told).partition(chr(10))[0]}") from error


def _not_so(path: Path, number: int, why: str) -> ReplayError:
    return ReplayError(
        f"{path} is not as an export writes it, at line {number} or shortly before ({why}); nothing was imported"
    )


def _import(bus: Bus, lines: NumberedLines, *, history: bool) -> int:
    table = journal_table(bus.backend.schema)
    count = upto = 0
    with bus.engine.begin() as connection, bus.backend.placed(connection):
        if connection.execute(select(func.count()).select_from(table)).scalar():
            raise ReplayError("the journal is not empty; import into a new database (`actionbus db upgrade` makes one)")
        head = lines.head
        has_history = history and bool(head.get("history"))
        if has_history:
            _refuse_history(bus, connection, head)
        postgresql = connection.dialect.name == "postgresql"
        bringing = carrying.Bringing(bus.backend, connection)
        for kind, found in groupby(lines, key=kind_of):
            if kind == "record":
                while batch := list(islice(found, _BATCH)):
                    append(connection, bus.backend, batch, has_history=has_history)
                    count += len(batch)
                    upto = max(upto, *(each.get("images_upto") or 0 for each in batch))
            elif kind == "privacy":
                bring(bus.backend, connection, found, history=has_history)
            elif has_history and kind == "shape":
                bringing.shapes(list(found))
            elif has_history:
                bringing.images(found)
        if has_history:
            bringing.go_on(upto)
        bring_gone(bus.backend, connection, head.get("gone", ()))
        identity = identity_table(bus.backend.schema)
        connection.execute(identity.update().values(identity=head["journal"]))
        if postgresql and count:
            last = connection.execute(select(func.max(table.c.position))).scalar_one()
            sequence = text("SELECT setval(pg_get_serial_sequence(:journal, 'position'), :last)")
            connection.execute(sequence, {"journal": bus.backend.journal_name, "last": last})
    return count


def _refuse_history(bus: Bus, connection: Connection, head: dict[str, Any]) -> None:
    """Refuse an export whose history cannot be carried here. Raises ReplayError."""
    here = connection.dialect.name
    if head["dialect"] != here:
        raise ReplayError(
            f"the file holds the row history of a database on {head['dialect']}, whose values are in its own form, and "
            f"this one is on {here}: import into one of the same kind, or the journal alone (--without-history)"
        )
    if not carrying.is_empty(bus.backend, connection):
        raise ReplayError(
            "tables of this database are recorded already, and the file holds the row history of others: import into a "
            "database of which nothing is recorded yet (`actionbus db upgrade` makes one), or the journal alone "
            "(--without-history)"
        )


def append(
    connection: Connection, backend: Backend, batch: list[dict[str, Any]], *, has_history: bool, is_own: bool = False
) -> None:
    """Append records that are told; with `is_own` they are this database's, and keep the numbers of transactions."""
    postgresql = connection.dialect.name == "postgresql"
    for told in () if is_own else batch:
        _refuse_types(told)
    rows = [_read(each, backend, postgresql, is_own) for each in batch]
    journal = backend.journal_name
    if has_history:
        rows = [
            row | {n: each[n] for n in ("images_after", "images_upto")} for row, each in zip(rows, batch, strict=True)
        ]
    columns = list(rows[0])
    if postgresql:
        types = {name: _TYPES.get(name, "text") for name in columns}
        carrying.insert_many(driver_connection(connection), journal, types, [list(row.values()) for row in rows])
        return
    # SQL of our own, since the payloads are text already, which SQLAlchemy's JSON type would encode once more.
    values = ", ".join(f":{name}" for name in columns)
    connection.execute(text(f"INSERT INTO {in_text(journal)} ({', '.join(columns)}) VALUES ({values})"), rows)


def _written(record: Record) -> dict[str, Any]:
    told = record.values()
    del told["teller"]
    for name in ("action_id", "cause_id"):
        told[name] = str(told[name]) if told[name] is not None else None
    for name in TIMES:
        told[name] = told[name].isoformat() if told[name] is not None else None
    return told


def _refuse_types(told: dict[str, Any]) -> None:
    """Raises TypeError for a value that its column is not for, which SQLite would take all the same."""
    for name, value in told.items():
        expected = int if _TYPES.get(name) in _INTEGERS else str
        if value is not None and type(value) is not expected and name not in PAYLOADS:
            raise TypeError(f"{name} is to be of type {expected.__name__}, and is {value!r:.60}")


def _read(told: dict[str, Any], backend: Backend, postgresql: bool, is_own: bool) -> dict[str, Any]:
    row = {name: told.get(name) for name in COLUMNS}
    for name in PAYLOADS:
        row[name] = payload.dumps(row[name]) if row[name] is not None else None
    for name in ("action_id", "cause_id"):
        row[name] = _id(row[name], postgresql)
    for name in TIMES:
        row[name] = backend.stored(datetime.fromisoformat(moment)) if (moment := told.get(name)) else None
    if postgresql and not is_own:
        # A record out of SQLite has no transaction id; every snapshot shows 0.
        row["xid"] = carrying.older(row["xid"]) or 0
        row["seen"] = carrying.older_snapshot(row["seen"])
    return row


def _id(value: str | None, postgresql: bool) -> str | None:
    return value if value is None or postgresql else UUID(value).hex


class Pseudonyms:
    """Made-up values in place of those of some fields, wherever they occur in a record."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = frozenset(fields)
        self._key = os.urandom(32)
        self._known: dict[str, str] = {}
        self._late: deque[str] = deque(maxlen=_LATE)

    def replace(self, told: dict[str, Any]) -> dict[str, Any]:
        """A record without the values."""
        for name in PAYLOADS:
            self._collect(told[name])
        if "actor" in self._fields and told["actor"]:
            self._learn(told["actor"])
        replaced = {name: self._in(told[name]) for name in PAYLOADS}
        actor = self._known.get(told["actor"] or "", told["actor"])
        return told | replaced | {"actor": actor}

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                if name in self._fields:
                    self._learn_all(each)
                self._collect(each)
        elif isinstance(value, list):
            for each in value:
                self._collect(each)

    def _learn_all(self, value: Any) -> None:
        if isinstance(value, str) and value:
            self._learn(value)
        elif isinstance(value, list):
            for each in value:
                self._learn_all(each)
        elif isinstance(value, dict):
            for each in value.values():
                self._learn_all(each)

    def _learn(self, value: str) -> None:
        if value not in self._known:
            digest = hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
            self._known[value] = f"p-{digest[:16]}"
        if value in self._late:
            self._late.remove(value)
        self._late.append(value)

    def _in(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {name: self._in(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._in(each) for each in value]
        return value

    def _text(self, value: str) -> str:
        if (known := self._known.get(value)) is not None:
            return known
        for original in self._late:
            if original in value:
                value = re.sub(rf"(?<!\w){re.escape(original)}(?!\w)", self._known[original], value)
        return value
