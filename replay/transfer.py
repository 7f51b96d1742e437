"""A journal out of its database and into another: `actionbus journal export` and `import`.

JSON lines, compressed: first what the file is, then a line per record with every column, its seed and snapshot
included, so that what is imported replays as the original does. Secrets are redacted already.
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
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from actionbus.core import Bus, Journal, Record
from actionbus.core.storage.backend import in_text
from actionbus.core.storage.ddl import LATEST
from actionbus.core.storage.table import PAYLOADS, TIMES, identity_table, journal_table
from actionbus.core.values import payload
from actionbus.replay.errors import ReplayError

FORMAT: Final = 1
_BATCH: Final = 500
_LATE: Final = 300
"""So many values met of late are looked for as words of longer texts too, such as messages of errors."""
Progress = Callable[[], None]


def export(
    journal: Journal,
    path: Path,
    *,
    after: int = 0,
    upto: int | None = None,
    pseudonymize: Sequence[str] = (),
    progress: Progress | None = None,
) -> int:
    """Write the records of a range to a file, which is complete or not there; how many there are.

    The values of the fields named in `pseudonymize` are replaced wherever they occur, each by the same made-up one,
    with a key that is thrown away; and digests of rows, which could be guessed, are left out. Handlers that sort by
    such values, cut them or put them together may come out otherwise than recorded.
    """
    pseudonyms = Pseudonyms(pseudonymize) if pseudonymize else None
    end = upto if upto is not None else journal.settled()
    head = {
        "format": FORMAT, "journal": journal.identity(), "dialect": journal.dialect, "schema": LATEST, "after": after,
        "upto": end, "exported_at": datetime.now(UTC).isoformat(),
        "pseudonymized": sorted(pseudonymize),
    }  # fmt: skip
    handle, name = tempfile.mkstemp(dir=path.parent or Path(), suffix=".tmp")
    os.close(handle)
    count = 0
    try:
        with gzip.open(name, "wt", encoding="ascii", compresslevel=6) as file:
            file.write(payload.dumps(head) + "\n")
            for record in journal.read(after, upto=end):
                told = _written(record)
                file.write(payload.dumps(pseudonyms.replace(told) if pseudonyms else told) + "\n")
                count += 1
                if progress:
                    progress()
        Path(name).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    return count


def import_into(bus: Bus, path: Path, progress: Progress | None = None) -> int:
    """Read a file into a journal that is empty, which takes the identity of the exported one; how many records.

    All or nothing. Raises ReplayError for a journal that is not empty, or a file that is none or cut off.
    """
    table = journal_table(bus.backend.schema)
    count = 0
    with bus.engine.begin() as connection, bus.backend.placed(connection):
        if connection.execute(select(func.count()).select_from(table)).scalar():
            raise ReplayError("the journal is not empty; import into a new database (`actionbus db upgrade` makes one)")
        lines = _lines(path)
        head = next(lines)
        postgresql = connection.dialect.name == "postgresql"
        while batch := list(islice(lines, _BATCH)):
            _append(connection, bus.backend.journal_name, [_read(each, postgresql) for each in batch], postgresql)
            count += len(batch)
            if progress:
                for _ in batch:
                    progress()
        identity = identity_table(bus.backend.schema)
        connection.execute(identity.update().values(identity=head["journal"]))
        if postgresql and count:
            last = connection.execute(select(func.max(table.c.position))).scalar_one()
            sequence = text("SELECT setval(pg_get_serial_sequence(:journal, 'position'), :last)")
            connection.execute(sequence, {"journal": bus.backend.journal_name, "last": last})
    return count


def _append(connection: Connection, journal: str, rows: list[dict[str, Any]], postgresql: bool) -> None:
    # SQL of our own, since the payloads are text already, which SQLAlchemy's JSON type would encode once more.
    columns = ", ".join(rows[0])
    values = ", ".join(f"CAST(:{name} AS json)" if postgresql and name in PAYLOADS else f":{name}" for name in rows[0])
    overriding = "OVERRIDING SYSTEM VALUE " if postgresql else ""
    connection.execute(text(f"INSERT INTO {in_text(journal)} ({columns}) {overriding}VALUES ({values})"), rows)


def header(path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    lines = _lines(path)
    return next(lines)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            head = payload.loads(file.readline() or "null")
            if not isinstance(head, dict) or head.get("format") != FORMAT:
                raise ReplayError(f"{path} is no exported journal of format {FORMAT}")
            yield head
            for line in file:
                yield payload.loads(line)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise ReplayError(f"{path} is no exported journal, or cut off: {error}") from None


def _written(record: Record) -> dict[str, Any]:
    told = record._asdict()
    del told["teller"]
    for name in ("action_id", "cause_id"):
        told[name] = str(told[name]) if told[name] is not None else None
    for name in TIMES:
        told[name] = told[name].isoformat() if told[name] is not None else None
    return told


def _read(told: dict[str, Any], postgresql: bool) -> dict[str, Any]:
    row = {name: told.get(name) for name in Record._fields}
    for name in PAYLOADS:
        row[name] = payload.dumps(row[name]) if row[name] is not None else None
    for name in ("action_id", "cause_id"):
        row[name] = _id(row[name], postgresql)
    for name in TIMES:
        row[name] = _time(row[name], postgresql)
    if postgresql:
        # A record out of SQLite has no transaction id; in no snapshot is 0 invisible.
        row["xid"] = row["xid"] or 0
    return row


def _id(value: str | None, postgresql: bool) -> str | None:
    return value if value is None or postgresql else UUID(value).hex


def _time(value: str | None, postgresql: bool) -> Any:
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    return moment if postgresql else moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


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
