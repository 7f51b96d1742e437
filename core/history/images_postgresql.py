"""Reads images on PostgreSQL and finds the record that each belongs to. Used by `core.history.history`.

An image's number is no position: a transaction that drew a number earlier may commit later. The argument:

1. A record's `images_upto` was read after its position was drawn. The images of a record at or before P were drawn
   before its own position, hence before P: all have numbers up to `images_upto` of P.
2. So what belongs to P or earlier are the images up to there, without those whose record lies beyond P.
3. `seen` of a record is a snapshot taken before its position was drawn: a transaction with a number below its xmin had
   ended by then, and so drew its record's position, if it has one, below P. Only images of transactions from there on
   need their record looked up. What was imported has numbers below all of the cluster's own (`history.carrying`). A
   cluster that was restored numbers its transactions anew: a snapshot of before that is told by its xmin, which lies
   above the number of the record at P itself; it is passed over.
4. An image belongs to the outcome with its action's id and its transaction's number; else to the `bypass` record of its
   transaction that was appended first after it; else, which is a forged action, to the first record after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import psycopg2
from sqlalchemy import Connection

from actionbus.core.history.chains import Chains
from actionbus.core.history.decoding import Decode, Values, decoder_of
from actionbus.core.history.fetching import Fetching
from actionbus.core.history.images import NOTHING, STRETCH, Cut, Image, Images, Link, Residual, Row, Stretch
from actionbus.core.history.postgresql_catalogue import PINS
from actionbus.core.history.postgresql_places import BYPASS, OUTCOME, OWN_OUTCOME, PLACED, PLACED_ONE_BY_ONE
from actionbus.core.history.shapes import BASELINE, GAP, Shape
from actionbus.core.storage.backend import Backend
from actionbus.core.storage.drivers import driver_connection
from actionbus.core.values.change import Source

FIRST: Final = -(2**62)
"""Below every transaction's number: those of an imported journal are negative (`history.carrying`)."""
_ALL: Final = 2**62 - 1
"""No image has so high a number."""
_LOOKED_AT: Final = 64
"""Records before a position, of which the one with the newest snapshot serves."""
_SETTINGS: Final = {**PINS, "cursor_tuple_fraction": "0.0001"}
"""As the triggers have it, since a key's text must be the same; and a cursor is to begin at once, by the index."""
_BEGIN: Final = "; ".join(
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ {mode}",
        *(f"SET LOCAL {name} = '{value}'" for name, value in _SETTINGS.items()),
    ]
)
_IMAGE: Final = f"i.image, i.shape, i.operation, i.key, i.before, i.after, i.action, {PLACED}"
_IS_IN: Final = "i.image <= ? AND NOT EXISTS (SELECT FROM unnest(?::bigint[]) l WHERE l = i.image)"
_RESIDUE: Final = """SELECT i.shape, i.key, v.held, sum(v.n)::bigint, max(i.image)
    FROM {{home}}actionbus_images i CROSS JOIN LATERAL (VALUES (i.after, 1), (i.before, -1)) v(held, n)
    WHERE i.shape = ANY(?) AND i.image > ? AND {chosen} AND v.held IS NOT NULL
    GROUP BY i.shape, i.key, v.held HAVING sum(v.n) <> 0"""
_OF_SHAPE: Final = """(SELECT i.image, i.shape, i.key, i.before, i.after FROM {{home}}actionbus_images i
    WHERE i.shape = ? AND i.image > ? AND {is_in} AND i.key {keys} ORDER BY i.key, i.image)"""
_LINKED: Final = """SELECT c.*, c.before IS DISTINCT FROM c.held{differ} AS is_open
    FROM (SELECT i.*, lag(i.after) OVER w AS held{was}, lead(i.image) OVER w AS until
        FROM ({images}) i WINDOW w AS (PARTITION BY i.key ORDER BY i.image)) c"""
"""Each image beside what the one before it left; `is_open` where it does not take that away."""
_BY_SHAPE: Final = {"was": ", lag(i.shape) OVER w AS was", "differ": " OR (c.was <> c.shape AND c.held IS NOT NULL)"}
_CHAINS: Final = """SELECT key, {shape}, after,
        CASE WHEN is_open THEN ARRAY[CASE WHEN until IS NULL THEN after END, {was}::text, held, before] END
    FROM ({linked}) d WHERE (until IS NULL AND after IS NOT NULL) OR is_open ORDER BY key, image"""
"""Of each key that is there the last image; and those that are open, with what tells why."""
_LAST_IMAGE: Final = """SELECT coalesce((SELECT images_upto FROM {home}journal WHERE images_upto IS NOT NULL
    ORDER BY position DESC LIMIT 1), 0)"""
"""There were images up to here when the last record was appended."""
_SHORT: Final = 100
_FEW: Final = 1_000
_MANY_FOR_A_PAGE: Final = 20_000
"""Of fewer images, all are sorted sooner than an index is searched for the keys that were there so early."""
_NOT_MANY: Final = 100_000


class PostgreSQLImages(Images):
    """The images of a database on PostgreSQL."""

    def __init__(self, backend: Backend, connection: Connection) -> None:
        super().__init__(backend, connection)
        self._known_later: dict[Cut, list[int]] = {}
        self._decoders: dict[int, Decode] = {}
        self._cursors = 0
        self._fetching = Fetching(lambda: driver_connection(connection).cursor())

    @contextmanager
    def snapshot(self, *, with_copies: bool = False) -> Iterator[None]:
        cursor = self._cursor()
        # Temporary tables are writes, which a reader's role may leave out by default, and a standby cannot do.
        cursor.execute(_BEGIN.format(mode="READ WRITE" if with_copies else ""))
        try:
            with self._fetching.ahead():
                yield
        finally:
            cursor.execute("ROLLBACK")

    @contextmanager
    def joined(self) -> Iterator[None]:
        names = [name.lower() for name in PINS]
        before = self.rows_of("SELECT name, setting FROM pg_settings WHERE lower(name) = ANY(?)", (names,))
        self.run("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in PINS.items()))
        yield
        for name, value in before:  # after an error they go with the transaction
            self.rows_of("SELECT set_config(?, ?, true)", (name, value))

    def cut(self, position: int, *, is_end: bool) -> Cut:
        begun = self.begun(position)
        rows = self.rows_of(
            "SELECT position, xid, images_upto, seen, recorded_at FROM {home}journal "
            "WHERE position <= ? AND position > ? AND images_upto IS NOT NULL ORDER BY position DESC LIMIT ?",
            (position, begun.upto if begun else 0, _LOOKED_AT),
        )
        if not rows:
            there = Cut(0, begun.image, begun.moment, ended=begun.ended) if begun else NOTHING
            return there._replace(position=position, image=_ALL if is_end else there.image, is_end=is_end)
        _, xid, image, _, moment = rows[0]
        if is_end:  # a forged action's have no record yet; of all others it is in this snapshot
            image = _ALL
        ended = max((xmin for row in rows if row[3] and (xmin := int(row[3].partition(":")[0])) <= xid), default=FIRST)
        if begun and begun.ended <= xid:
            ended = max(ended, begun.ended)
        return Cut(position, image, self.utc(moment), ended=ended, is_end=is_end)

    def later(self, cut: Cut) -> list[int]:
        if cut not in self._known_later:
            # The planner, who takes numbers and transactions for independent, expects many: each outcome by its index,
            # and apart from that, the images by the order in which both grow, rather than all by whatever index.
            rows = self.rows_of(
                "WITH late AS MATERIALIZED (SELECT l.image, l.xid, l.action FROM {home}actionbus_images l "
                "WHERE l.image <= ? AND l.xid >= ?) "
                f"SELECT i.image FROM late i WHERE coalesce({OWN_OUTCOME}, {BYPASS}) > ?",
                (cut.image, cut.ended, cut.position),
            )
            self._known_later[cut] = [number for (number,) in rows]
        return self._known_later[cut]

    def residue(
        self,
        shapes: Sequence[Shape],
        since: int,
        cut: Cut,
        before: Cut | None = None,
        keys: Sequence[Any] | None = None,
    ) -> Iterator[Residual]:
        chosen, values = _IS_IN, [_numbers(shapes), since, cut.image, self.later(cut)]
        if before is not None:
            chosen += " AND (i.image > ? OR i.image = ANY(?::bigint[]))"
            values += [before.image, self.later(before)]
        if keys is not None:
            chosen += " AND i.key = ANY(?::text[])"
            values += [list(keys)]
        return map(Residual._make, self.rows_of(_RESIDUE.format(chosen=chosen), values))

    def stretches(
        self, shapes: Sequence[Shape], since: int, cut: Cut, after: Any = None, size: int = STRETCH
    ) -> Iterator[Stretch]:
        images, values = self._of_shapes(shapes, since, cut, *(("IS NOT NULL",) if after is None else ("> ?", after)))
        if len(shapes) == 1:  # nothing is asked of each image that is known of all
            number = shapes[0].shape
            sql = _CHAINS.format(shape=number, was=number, linked=_LINKED.format(images=images, was="", differ=""))
        else:
            sql = _CHAINS.format(shape="shape", was="was", linked=_LINKED.format(images=images, **_BY_SHAPE))
        chains = Chains()
        is_page = size < STRETCH and cut.image - since > _MANY_FOR_A_PAGE
        yield from map(chains.stretch, self._fetched(sql, values, min(size, STRETCH), in_order=is_page))
        yield chains.rest()

    def linked(
        self, shapes: Sequence[Shape], since: int, cut: Cut, keys: str = "IS NOT NULL", *wanted: Any
    ) -> tuple[str, list[Any]]:
        """SQL of all images of keys, or of such keys, each beside what the one before it left, and its parameters."""
        images, values = self._of_shapes(shapes, since, cut, keys, *wanted)
        return _LINKED.format(images=images, **_BY_SHAPE), values

    def open_links(self, shapes: Sequence[Shape], keys: Sequence[Any], since: int, cut: Cut) -> list[tuple[Any, Link]]:
        linked, values = self.linked(shapes, since, cut, "= ANY(?::text[])", list(keys))
        rows = self.rows_of(f"SELECT key, was, held, shape, before FROM ({linked}) d WHERE is_open", values)
        return [(key, Link(*link)) for key, *link in rows]

    def _of_shapes(
        self, shapes: Sequence[Shape], since: int, cut: Cut, keys: str, *wanted: Any
    ) -> tuple[str, list[Any]]:
        """One branch for each shape, each in the order of the index, which PostgreSQL then merges without sorting."""
        later = self.later(cut)
        # A condition rather than a join leaves the planner the order of the index; a long list is looked through once.
        is_in = "i.image <= ? AND i.image <> ALL(?::bigint[])" if len(later) <= _SHORT else _IS_IN
        branch = _OF_SHAPE.format(is_in=is_in, keys=keys)
        own = [since, cut.image, later, *wanted]
        return " UNION ALL ".join([branch] * len(shapes)), [v for shape in shapes for v in (shape.shape, *own)]

    def _streamed(self, sql: str, values: Sequence[Any]) -> Iterator[Sequence[Any]]:
        return (row for rows in self._fetched(sql, values, STRETCH) for row in rows)

    def _fetched(
        self, sql: str, values: Sequence[Any], size: int, *, in_order: bool = False
    ) -> Iterator[list[Sequence[Any]]]:
        """Rows as they are needed, first so many, by a cursor of the server, which ends with the snapshot.

        With `in_order` an index gives them as they are to come: the planner, who takes all rows of a statement that has
        an order for wanted, would sort the images of half a journal for a page.
        """
        self._cursors += 1
        name = f"actionbus_{self._cursors}"
        declare = f"DECLARE {name} NO SCROLL CURSOR FOR {sql}"
        if in_order:
            declare = f"SET LOCAL enable_sort = off; {declare}; SET LOCAL enable_sort TO DEFAULT"
        self._run(self._cursor(), declare, values)
        return self._fetching.pieces(name, size)

    def of_row(self, shapes: Sequence[Shape], key: Values, since: int, cut: Cut) -> list[Image]:
        found = [each for text, ids in self._keys(shapes, key) for each in self._of_key(ids, text, since, cut)]
        return sorted(found, key=lambda each: each.image)

    def _of_key(self, shapes: list[int], text: str, since: int, cut: Cut) -> list[Image]:
        found = self._images(
            "i.shape = ANY(?) AND i.key = ? AND i.image > ? AND i.image <= ?", (shapes, text, since, cut.image)
        )
        return _up_to(cut, found)

    def key_of(self, shape: Shape, key: Values) -> Any:
        return next(self._keys([shape], key))[0]

    def _keys(self, shapes: Sequence[Shape], key: Values) -> Iterator[tuple[str, list[int]]]:
        """The key as each shape's images have it; shapes whose key has other columns have none."""
        by_types: dict[tuple[str, ...], list[int]] = {}
        for shape in shapes:
            if len(shape.key) == len(key):
                types = tuple(shape.types[shape.columns.index(each)] for each in shape.key)
                by_types.setdefault(types, []).append(shape.shape)
        for types, numbers in by_types.items():
            casts = ", ".join(f"CAST(? AS {each})" for each in types)
            try:
                text = self.rows_of(f"SELECT ROW({casts})::text", [str(each) for each in key])[0][0]
            except psycopg2.DataError as error:
                raise ValueError(str(error).splitlines()[0]) from None
            if len(text.encode()) > 1500:
                text = self.rows_of("SELECT {home}actionbus_key(?)", (text,))[0][0]
            yield text, numbers

    def of_record(self, shapes: Sequence[Shape], source: Source) -> list[Image]:
        rows = self.rows_of("SELECT images_upto FROM {home}journal WHERE position = ?", (source.position,))
        sql = f"i.shape = ANY(?) AND i.xid = ? AND i.image <= ? AND {PLACED} = ?"
        upto = rows[0][0] if rows else None
        if upto is None:
            return []
        if source.kind == "outcome":
            sql += " AND i.action = ?"
        values = [_numbers(shapes), source.xid, upto, source.position]
        return self._images(sql, values + ([source.action_id.hex] if source.kind == "outcome" else []))

    def positions(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[int]:
        # If they are not many, each outcome by its index: the planner expects many in any range, and reads the journal.
        is_short = high.image - low.image <= _NOT_MANY
        placed = PLACED_ONE_BY_ONE if is_short else PLACED
        sql = f"""SELECT DISTINCT {placed} FROM (SELECT min(image) AS image, xid, action
            FROM {{home}}actionbus_images i WHERE i.shape = ANY(?) AND {_IS_IN}
            AND (i.image > ? OR i.image = ANY(?::bigint[]))
            AND NOT (i.operation = '{BASELINE}' AND i.image <= ?) GROUP BY xid, action) i
            {"" if is_short else OUTCOME}"""
        begun = self.archived()
        archived = begun.image if begun else 0
        values = (_numbers(shapes), high.image, self.later(high), low.image, self.later(low), archived)
        return sorted(each for (each,) in self.rows_of(sql, values) if each is not None)

    def places(self, conditions: Sequence[tuple[str, Sequence[Any]]], most: int) -> set[int]:
        some = "(SELECT i.image, i.xid, i.action FROM {{home}}actionbus_images i WHERE {} LIMIT {})"
        chosen = " UNION ALL ".join(some.format(where, most) for where, _ in conditions)
        sql = f"""SELECT DISTINCT {PLACED_ONE_BY_ONE} FROM
            (SELECT min(image) AS image, xid, action FROM ({chosen}) c GROUP BY xid, action) i"""
        rows = self.rows_of(sql, [value for _, values in conditions for value in values])
        return {position for (position,) in rows if position is not None}

    def between(self, shapes: Sequence[Shape], low: Cut, high: Cut) -> list[Image]:
        sql = "i.shape = ANY(?) AND i.image <= ? AND (i.image > ? OR i.image = ANY(?::bigint[]))"
        found = _up_to(high, self._images(sql, (_numbers(shapes), high.image, low.image, self.later(low))))
        return [each for each in found if each.position is not None]

    def beyond(self, shapes: Mapping[int, Shape], number: int) -> list[Image]:
        sql = """SELECT image, shape, operation, key, before, after, action, NULL::bigint
            FROM {home}actionbus_images WHERE image > ? ORDER BY image"""
        return [Image(*row) for row in self.rows_of(sql, (number,))]

    def uncommitted(self, shapes: Mapping[int, Shape], nested: Collection[UUID]) -> list[Image]:
        sql = """SELECT image, shape, operation, key, before, after, action, NULL::bigint FROM {home}actionbus_images
            WHERE xid = pg_current_xact_id_if_assigned()::text::bigint ORDER BY image"""
        names = {each.hex for each in nested}
        found = (Image(*row) for row in self.rows_of(sql) if row[1] in shapes)
        return [each if each.claimed in names else each._replace(claimed=None) for each in found]

    def unrecorded(self, shapes: Sequence[Shape], since: int, cut: Cut) -> list[Image]:
        # Without a key, by which the index finds them; of shape 0 are those of which not even the table is known.
        sql = f"i.shape = ANY(?) AND i.key IS NULL AND i.operation = '{GAP}' AND i.image > ? AND i.image <= ?"
        return _up_to(cut, self._images(sql, ([0, *_numbers(shapes)], since, cut.image)))

    def of_keys(self, shapes: Sequence[Shape], keys: Sequence[Any] | None, since: int, cut: Cut) -> list[Image]:
        where, values = f"i.shape = ANY(?) AND i.image > ? AND {_IS_IN}", [_numbers(shapes), since, cut.image]
        if keys is None:
            return self._images(where, [*values, self.later(cut)])
        return self._images(f"{where} AND i.key = ANY(?::text[])", [*values, self.later(cut), list(keys)])

    def told(self, shapes: Sequence[Shape], cut: Cut) -> Iterator[list[Any]]:
        sql = f"""SELECT i.image, i.shape, i.operation, i.key, i.before, i.after, i.action, i.xid
            FROM {{home}}actionbus_images i WHERE {_IS_IN}"""
        return map(list, self._streamed(sql, (cut.image, self.later(cut))))

    def remove(self, images: Sequence[Image]) -> None:
        self._change("DELETE FROM {home}actionbus_images i USING", images)

    def make_baseline(self, images: Sequence[Image], widths: Mapping[int, int]) -> None:
        self._change(f"UPDATE {{home}}actionbus_images i SET operation = '{BASELINE}', before = NULL FROM", images)

    def _change(self, what: str, images: Sequence[Image]) -> None:
        keyed = [each for each in images if each.key is not None]
        wanted = "unnest(?::integer[], ?::text[], ?::bigint[]) w(shape, key, image)"
        if keyed:
            same = "i.shape = w.shape AND i.key = w.key AND i.image = w.image"
            self.run(
                f"{what} {wanted} WHERE {same}",
                [list(each) for each in zip(*((i.shape, i.key, i.image) for i in keyed), strict=True)],
            )
        if others := [each for each in images if each.key is None]:
            same = "i.shape = w.shape AND i.key IS NULL AND i.image = w.image"
            self.run(
                f"{what} unnest(?::integer[], ?::bigint[]) w(shape, image) WHERE {same}",
                [[i.shape for i in others], [i.image for i in others]],
            )

    def _place_of(self, shape: Shape) -> int | None:
        sql = """SELECT min(b.position) FROM {home}journal b
            WHERE b.kind = 'bypass' AND b.xid = ? AND b.images_upto >= ? AND b.recorded_at >= ?
            AND CASE WHEN ? THEN EXISTS (SELECT FROM json_array_elements_text(b.context->'baseline') n WHERE n = ?)
                ELSE b.context->'baseline' IS NOT NULL END"""
        # It is an installation's, and names what begins: a restored cluster may give another transaction that number.
        own = (shape.xid, shape.since_image, shape.since, shape.is_baseline, shape.table_name)
        found: int | None = None if shape.is_drifted else self.rows_of(sql, own)[0][0]
        if found is None and shape.is_baseline:
            baseline = f"i.shape = ? AND i.image > ? AND i.operation = '{BASELINE}' ORDER BY i.image LIMIT 1"
            first = self._images(baseline, (shape.shape, shape.since_image), ordered=False)
            found = first[0].position if first else None
        return found

    def last_of(self, shapes: Sequence[Shape]) -> int | None:
        # No index has a table's images by number: longer and longer pieces of the end are looked through.
        sql = "SELECT max(image) FROM {home}actionbus_images WHERE shape = ANY(?) AND image > ?"
        last = self.rows_of(_LAST_IMAGE)[0][0]
        size, low, found = _FEW, last, None
        while found is None and low >= shapes[0].since_image:
            low, size = last - size, size * 10
            found = self.rows_of(sql, (_numbers(shapes), low))[0][0]
        return None if found is None else self._images("i.image = ?", (found,))[0].position or self.end()

    def waiting(self) -> int:
        return int(self.rows_of(f"SELECT count(*) FROM {{home}}actionbus_images WHERE image > ({_LAST_IMAGE})")[0][0])

    def values(self, shape: Shape, rows: Sequence[Row]) -> Iterable[Values]:
        if shape.shape not in self._decoders:
            self._decoders[shape.shape] = decoder_of(shape.types)
        return self._decoders[shape.shape](rows) if rows else ()

    def _images(self, where: str, values: Sequence[Any], *, ordered: bool = True) -> list[Image]:
        order = " ORDER BY i.image" if ordered else ""
        sql = f"SELECT {_IMAGE} FROM {{home}}actionbus_images i {OUTCOME} WHERE {where}{order}"
        return [self.at_cut(Image(*row)) for row in self.rows_of(sql, values)]

    def rows_of(self, sql: str, parameters: Sequence[Any] = ()) -> list[Sequence[Any]]:
        cursor = self._cursor()
        self._run(cursor, sql, parameters)
        return list(cursor.fetchall())

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """A statement that gives no rows, written as for `rows_of`."""
        self._run(self._cursor(), sql, parameters)

    def _run(self, cursor: Any, sql: str, parameters: Sequence[Any]) -> None:
        placed = sql.replace("%", "%%").replace("?", "%s")
        cursor.execute(placed.replace("{home}", self.prefix.replace("%", "%%")), tuple(parameters))

    def _cursor(self) -> Any:
        return self._fetching.cursor()


def _up_to(cut: Cut, images: Sequence[Image]) -> list[Image]:
    last = 2**63
    return [each for each in images if cut.is_end or (each.position or last) <= cut.position]


def _numbers(shapes: Sequence[Shape]) -> list[int]:
    return [shape.shape for shape in shapes]
