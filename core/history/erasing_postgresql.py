"""Erases on PostgreSQL, by the function that alone may change an image. See `history.databases`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from actionbus.core.errors import JournalUnavailable
from actionbus.core.history.decoding import fields_of, row_text
from actionbus.core.history.erasing import ErasedImages, ImageSides, MarkedImage, SubjectColumns
from actionbus.core.history.shapes import Shape
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.storage.names import quoted
from actionbus.core.values.backoff import growing

_PATIENCE_S: Final = 60.0
_BATCH: Final = 10_000
_HOLDERS: Final = """
    SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted
    AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid IS DISTINCT FROM pg_backend_pid() AND relation IN (
        SELECT r FROM unnest(%s::oid[]) r UNION SELECT relid FROM unnest(%s::oid[]) r, pg_partition_tree(r))"""


class PostgreSQLStore(ErasedImages):
    """Within the transaction of an action, at READ COMMITTED: each statement sees what was committed before it."""

    def __init__(self, connection: Connection, prefix: str, subject: str) -> None:
        self._cursor: Any = driver_connection(connection).cursor()
        self._home = prefix
        self._subject = subject
        self._salt = secrets.token_bytes(32)

    def wait_for_writers(self, shapes: Sequence[Shape]) -> None:
        # Two erasures of one image would each see it as it was before the other.
        self._rows("SELECT pg_advisory_xact_lock(hashtext('actionbus erasure'))::text")
        tables = [each.relation for each in shapes]
        waited_for, pauses, started = self._holders(tables), growing(0.001, 0.1), time.monotonic()
        while waited_for:
            if time.monotonic() - started > _PATIENCE_S:
                raise JournalUnavailable(
                    f"{len(waited_for)} transactions that write tables with personal columns have not ended for "
                    f"{_PATIENCE_S:.0f} s, and may yet record the subject; nothing was erased: try again when they have"
                )
            time.sleep(next(pauses))
            now = self._holders(tables)
            # One that is gone may have been prepared instead, and hold its lock under a new name.
            waited_for = (waited_for & now) | {each for each in now if each.startswith("-1/")}

    def _holders(self, tables: Sequence[int | None]) -> set[str]:
        return {name for (name,) in self._rows(_HOLDERS, (tables, tables))}

    def naming(self, part: SubjectColumns, subjects: Collection[str]) -> Iterator[ImageSides]:
        assert part.subject is not None
        if part.shape.key == (part.shape.columns[part.subject],):
            yield from self.of_keys(part.shape, [row_text([each]) for each in subjects])
            return
        # As it stands in a row's text, between its neighbours; what is found is looked at field by field.
        before = "(" if part.subject == 0 else ","
        after = ")" if part.subject == len(part.shape.columns) - 1 else ","
        looked_for = [f"{before}{row_text([each])[1:-1]}{after}" for each in sorted(subjects)]
        yield from self._versions(
            "EXISTS (SELECT FROM unnest(%s) s WHERE strpos(before, s) > 0 OR strpos(after, s) > 0)",
            part.shape,
            looked_for,
        )

    def of_keys(self, shape: Shape, keys: Collection[Any]) -> Iterator[ImageSides]:
        yield from self._versions("key = ANY (%s)", shape, sorted(keys))

    def _versions(self, where: str, shape: Shape, wanted: list[str]) -> Iterator[ImageSides]:
        rows = self._rows(
            f"SELECT image, key, before, after FROM {self._home}actionbus_images WHERE shape = %s AND {where}",
            (shape.shape, wanted),
        )
        for image, key, before, after in rows:
            yield ImageSides(image, key, before and fields_of(before), after and fields_of(after))

    def erase(self, part: SubjectColumns, marked: Sequence[MarkedImage]) -> int:
        places = [place + 1 for place in part.places]
        count = 0
        for start in range(0, len(marked), _BATCH):
            chosen = marked[start : start + _BATCH]
            sides = ([m.version.image for m in chosen], [m.before for m in chosen], [m.after for m in chosen])
            given = (self._subject, part.shape.shape, *sides, places, self._salt)
            call = (
                f"SELECT {self._home}actionbus_erase(%s, %s, %s::bigint[], %s::boolean[], %s::boolean[], %s::int[], %s)"
            )
            count += int(self._rows(call, given)[0][0])
        return count

    def standing(self, table: str, subject: str, columns: Iterable[str], subjects: Collection[str]) -> int:
        name = ".".join(map(quoted, table.split(".", 1))).replace("%", "%%")
        there = self._rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (name.replace("%%", "%"),),
        )
        names = {column for (column,) in there}
        held = [f"{quoted(each)} IS NOT NULL".replace("%", "%%") for each in columns if each in names]
        if subject not in names or not held:
            return 0
        is_his = f"{quoted(subject)}::text".replace("%", "%%")
        sql = f"SELECT count(*) FROM {name} WHERE {is_his} = ANY (%s) AND ({' OR '.join(held)})"
        return int(self._rows(sql, (sorted(subjects),))[0][0])

    def forget(self, subject: str) -> int:
        keys = f"{self._home}actionbus_subject_keys"
        deleted = f"DELETE FROM {keys} WHERE key_id IN (SELECT key_id FROM {keys} WHERE subject = %s) RETURNING key_id"
        return len(set(self._rows(deleted, (subject,))))

    def close(self) -> None:
        """Nothing is open beyond this transaction. An erasure is noted where no image was there to be changed, too.

        All of the subject's may be archived: whoever attaches them is told that there was an erasure since.
        """
        note = f"SELECT {self._home}actionbus_erase(%s, NULL, '{{}}', '{{}}', '{{}}', '{{}}', %s)"
        self._rows(note, (self._subject, self._salt))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        self._cursor.execute(sql, values)
        return list(self._cursor.fetchall())
