"""EmbeddedSearch carries out one search in the embedded store's database; `embedded.py` makes one for each."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from actionbus.adapters.embedded_dialects import Dialect, Values
from actionbus.adapters.highlights import highlights
from actionbus.adapters.words import Phrase, phrases_in
from actionbus.projections.errors import QueryRefused
from actionbus.projections.fields import Field, Fields, Kind, is_number
from actionbus.projections.search import NO_CURSOR, REBUILT, Hit, Hits, PageEnd, Search, cursor, place_of

_FACET_SIZE: Final = 50
_COMPARED: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

Ask = Callable[..., list[Any]]
"""Runs a statement, in which `{p}` stands for the schema, with values; gives its rows."""


class EmbeddedSearch:
    """`index` is what readers of `alias` see, `fields` what its mapping says."""

    def __init__(self, ask: Ask, dialect: Dialect, fields: Fields, alias: str, index: str, search: Search) -> None:
        self._ask = ask
        self._dialect = dialect
        self._fields = fields
        self._alias = alias
        self._index = index
        self._search = search
        self._phrases: list[Phrase] = phrases_in(search.text, search.match) if search.has_text else []
        self._values: dict[str, Any] = {"name": index}
        self._source = dialect.searched if self._phrases else "{p}projection_documents AS d"

    def hits(self) -> Hits:
        """The page that is asked for."""
        place = self._place()
        if self._search.has_text and not self._phrases:
            return Hits(0, [], {name: {} for name in self._search.facets})
        where = self._where()
        total = place.total if place else self._count(where)
        facets = {name: self._facet(name, where) for name in self._search.facets}
        rows = self._page(where, place)
        return Hits(total, [self._hit(row) for row in rows], facets, self._next(rows, total))

    def _place(self) -> PageEnd | None:
        place = place_of(self._search, self._alias)
        if place and place.store != self._index:
            raise QueryRefused(REBUILT)
        return place

    def _where(self) -> str:
        parts = ["d.index_name = :name", "d.document IS NOT NULL"]
        if self._phrases:
            condition, bound = self._dialect.matches(self._phrases)
            parts.append(condition)
            self._values |= bound
        for name in self._search.filters:
            parts.append(self._equal(name))
        for name in self._search.ranges:
            parts.append(self._within(name))
        return " AND ".join(parts)

    def _equal(self, name: str) -> str:
        """One value of the field is one of those: numbers and times as such, others as they are written."""
        wanted, field = self._search.equals_of(name, self._fields), self._field(name)
        if field.kind not in ("number", "date"):
            values = self._each(field)
            listed = self._dialect.listed(self._bind(orjson.dumps(wanted).decode()))
            return _exists(values, f"{values.text} IN ({listed})")
        values = self._each(field, compared=True)
        bound = ", ".join(self._dialect.bound(self._bind(each), field.kind) for each in wanted)
        return _exists(values, f"{values.number} IN ({bound or 'NULL'})")

    def _within(self, name: str) -> str:
        """One value of the field is within all the bounds, as Elasticsearch has it."""
        bounds = self._search.bounds_of(name, self._fields)
        field = self._fields.exact[name]
        values = self._each(field, compared=True)
        compared = f"{values.as_kind(field.kind)}{self._collated(field)}"
        return _exists(
            values,
            *(
                f"{compared} {_COMPARED[bound]} {self._dialect.bound(self._bind(value), field.kind)}"
                for bound, value in bounds.items()
            ),
        )

    def _field(self, name: str) -> Field:
        """Where nothing is mapped, any name may be asked for; it is where it says."""
        return self._fields.exact.get(name) or Field("other", name)

    def _each(self, field: Field, *, compared: bool = False) -> Values:
        """Times are compared as numbers, which stand beside the document, and told as they were written."""
        beside = compared and field.kind == "date"
        path = self._dialect.path([field.path] if beside else field.path.split("."))
        return self._dialect.each("d.dates" if beside else "d.document", self._bind(path))

    def _bind(self, value: Any) -> str:
        name = f"value{len(self._values)}"
        self._values[name] = value
        return name

    def _collated(self, field: Field) -> str:
        return f" COLLATE {self._dialect.bytewise}" if field.kind == "word" else ""

    def _facet(self, name: str, where: str) -> dict[str, int]:
        values = self._each(self._field(name))
        rows = self._ask(
            f"SELECT {values.text}, count(DISTINCT d.key) FROM {self._source}, {values.source} "
            f"WHERE {where} AND {values.condition} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_FACET_SIZE}",
            **self._values,
        )
        return {str(row[0]): int(row[1]) for row in rows}

    def _count(self, where: str) -> int:
        return int(self._ask(f"SELECT count(*) FROM {self._source} WHERE {where}", **self._values)[0][0])

    def _page(self, where: str, place: PageEnd | None) -> list[Any]:
        orders = self._orders()
        asked = "".join(f", {order.asked} AS sorted{number}" for number, order in enumerate(orders))
        score = self._dialect.score if self._phrases and not self._search.sort else "0.0"
        after = f"WHERE {self._after(orders, place)} " if place else ""
        shown = [f"sorted{number} IS NULL, {order.shown(number)}" for number, order in enumerate(orders)]
        order_by = ", ".join([*shown, "key"])
        return self._ask(
            f"SELECT * FROM (SELECT d.key AS key, d.document AS document, {score} AS score{asked} FROM {self._source} "
            f"WHERE {where}) AS found {after}ORDER BY {order_by} LIMIT :limit OFFSET :offset",
            limit=self._search.limit,
            offset=self._search.offset,
            **self._values,
        )

    def _orders(self) -> list[_Order]:
        """What the hits are sorted by before their keys; of a list the least value, or descending the greatest."""
        if not self._search.sort:
            return [_Order(self._dialect.score, "number", True, "")] if self._phrases else []
        found = []
        for name, descending in self._search.orders:
            field = self._fields.sortable(name)
            values = self._each(field, compared=True)
            one = f"{'max' if descending else 'min'}({values.as_kind(field.kind)}{self._collated(field)})"
            asked = f"(SELECT {one} FROM {values.source} WHERE {values.condition})"
            found.append(_Order(asked, field.kind, descending, self._collated(field)))
        return found

    def _after(self, orders: list[_Order], place: PageEnd) -> str:
        """What comes after a place: later in one order while even in those before it; what has no value comes last."""
        if len(place.values) != len(orders) + 1:
            raise QueryRefused(NO_CURSOR)
        even, ways = [], []
        for number, (order, value) in enumerate(zip(orders, place.values, strict=False)):
            one = f"sorted{number}{order.collated}"
            if value is None:
                even.append(f"sorted{number} IS NULL")
                continue
            there = self._dialect.bound(self._bind(_checked(value, order.kind)), order.kind)
            later = f"(sorted{number} IS NULL OR {one} {'<' if order.descending else '>'} {there})"
            ways.append(" AND ".join([*even, later]))
            even.append(f"{one} = {there}")
        key = self._bind(_checked(place.values[-1], "word"))
        ways.append(" AND ".join([*even, f"key > :{key}"]))
        return "(" + " OR ".join(f"({way})" for way in ways) + ")"

    def _hit(self, row: Any) -> Hit:
        document = orjson.loads(row.document)
        marked = highlights(document, self._fields.texts, self._phrases) if self._phrases else {}
        return Hit(row.key, float(row.score), document, marked)

    def _next(self, rows: list[Any], total: int) -> str | None:
        if self._search.after is None or len(rows) < self._search.limit:
            return None
        sorted_by = [_plain(value) for value in rows[-1][3:]]
        return cursor(self._search, self._alias, PageEnd([*sorted_by, rows[-1].key], total, self._index))


class _Order(NamedTuple):
    """What is sorted by: the SQL that gives it, and how it is compared."""

    asked: str
    kind: Kind
    descending: bool
    collated: str

    def shown(self, number: int) -> str:
        return f"sorted{number}{self.collated}{' DESC' if self.descending else ''}"


def _exists(values: Values, *conditions: str) -> str:
    return f"EXISTS (SELECT 1 FROM {values.source} WHERE {' AND '.join([values.condition, *conditions])})"


def _plain(value: Any) -> Any:
    """As JSON can hold it, without loss."""
    return str(value) if isinstance(value, Decimal) else value


def _checked(value: Any, kind: Kind) -> Any:
    """A value of a cursor as SQL takes it. Raises QueryRefused for what no cursor of ours holds."""
    is_right = isinstance(value, str) == (kind == "word") or (isinstance(value, str) and is_number(value))
    if not is_right or (type(value) is int and not -(2**63) <= value < 2**63):
        raise QueryRefused(NO_CURSOR)
    return value
