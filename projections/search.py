"""Search, what is asked of a store, and Hits, what it answers: the same for every store, and checked before any of it.

`es_repo`, HTTP and the command line make them; the stores in `adapters` carry them out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from actionbus.core.values import payload
from actionbus.core.values.payload import unstorable_text
from actionbus.projections.errors import QueryRefused
from actionbus.projections.fields import Fields

Match = Literal["words", "phrase", "prefix"]
MATCHES: Final[tuple[Match, ...]] = ("words", "phrase", "prefix")
BOUNDS: Final = ("gt", "gte", "lt", "lte")
START: Final = "*"
"""The cursor of a first page."""
NO_CURSOR: Final = f"the cursor was not given by a search; begin with {START!r}"
REBUILT: Final = f"the index was rebuilt since the cursor was given; begin with {START!r}"
LONGEST_TEXT: Final = 10_000
MOST_PARTS: Final = 200
"""Parts of a text, between which there are spaces."""
MOST_FILTERS: Final = 50
MOST_VALUES: Final = 10_000
"""Of all filters together."""
MOST_FACETS: Final = 10
MOST_SORTS: Final = 5
MOST_HITS: Final = 10_000
"""On a page, and as far as `offset` leads: Elasticsearch's own limit. A cursor leads to the end."""


@dataclass(frozen=True)
class Hit:
    """A document that was found, with its score and what is marked in it."""

    key: str
    score: float
    document: dict[str, Any]
    highlights: dict[str, list[str]] = field(default_factory=dict)
    """HTML: the words found are in `<em>`, all else is escaped."""


@dataclass(frozen=True)
class Hits:
    """A page of a search, the number of all hits, and how they spread over the facets asked for."""

    total: int
    hits: list[Hit]
    facets: dict[str, dict[str, int]] = field(default_factory=dict)
    next: str | None = None
    """The cursor of the next page; None at the end, and where none was asked for."""


class Order(NamedTuple):
    """A field to sort by."""

    name: str
    descending: bool


@dataclass(frozen=True)
class Search:
    """A text, exact values of fields (one or any of several), bounds of fields, facets, an order, a page.

    `match` says how the text is looked for: all its `words` anywhere in the text fields; as a `phrase`, side by side;
    or as a `prefix`, where the last word may go on. `ranges` has by field what it is `gt`, `gte`, `lt` or `lte`. `sort`
    names fields, with `-` before those that descend; where nothing is said, what fits best comes first. Pages are
    counted by `offset`, or follow each other by cursor: `after` is "*" and then the `next` of the page before.

    Raises QueryRefused for what no store could run.
    """

    text: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)
    facets: Sequence[str] = ()
    limit: int = 20
    offset: int = 0
    match: Match = "words"
    ranges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sort: Sequence[str] = ()
    after: str | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise QueryRefused(problem)

    @property
    def has_text(self) -> bool:
        """Whether anything is looked for; a blank text finds all documents, one without words none."""
        return bool(self.text.strip())

    @property
    def orders(self) -> list[Order]:
        """What is sorted by, field and direction."""
        return [Order(each.removeprefix("-"), each.startswith("-")) for each in self.sort]

    def fields(self) -> list[str]:
        """All that are filtered, bounded, counted and sorted by."""
        return [*self.filters, *self.ranges, *self.facets, *(order.name for order in self.orders)]

    def values_of(self, name: str) -> list[Any]:
        """The values of a filter, any of which will do."""
        value = self.filters[name]
        if isinstance(value, (set, frozenset)):
            return sorted(value, key=repr)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def _problems(self) -> Iterator[str]:
        """What is wrong, the first first: what comes after may rely on it."""
        if not isinstance(self.text, str):
            yield f"the text to search for must be text, not {type(self.text).__name__}"
        if len(self.text) > LONGEST_TEXT:
            yield f"the text to search for has {len(self.text):,} characters; at most {LONGEST_TEXT:,} are taken"
        if (parts := len(self.text.split())) > MOST_PARTS:
            yield f"the text to search for has {parts:,} words; at most {MOST_PARTS} are taken"
        if self.match not in MATCHES:
            yield f"match is {_shown(self.match)}; it must be one of {', '.join(MATCHES)}"
        yield from self._problems_of_the_page()
        for name, most, given in (
            ("filters", MOST_FILTERS, self.filters),
            ("ranges", MOST_FILTERS, self.ranges),
            ("facets", MOST_FACETS, self.facets),
            ("fields to sort by", MOST_SORTS, self.sort),
        ):
            if len(given) > most:
                yield f"{len(given):,} {name} are given; at most {most} are taken"
        yield from self._problems_of_the_filters()
        yield from self._problems_of_the_ranges()
        asked = [
            self.text,
            list(self.fields()),
            [self.values_of(name) for name in self.filters],
            [list(bounds.values()) for bounds in self.ranges.values()],
        ]
        if why := unstorable_text(asked):
            yield f"the search {why}"

    def _problems_of_the_page(self) -> Iterator[str]:
        for name, value, least in (("limit", self.limit, 0), ("offset", self.offset, 0)):
            if type(value) is not int or not least <= value <= MOST_HITS:
                yield f"{name} is {_shown(value)}; it must be a whole number from {least} to {MOST_HITS:,}"
        if self.offset + self.limit > MOST_HITS:
            yield f"pages end at {MOST_HITS:,} hits; follow the cursors of `after` to go further"
        if self.after is not None and (self.offset or not self.limit):
            yield "a cursor needs a limit of 1 or more, and no offset: it says itself where its page begins"

    def _problems_of_the_filters(self) -> Iterator[str]:
        for name in (*self.filters, *self.ranges, *self.facets, *self.sort):
            if not isinstance(name, str):
                yield f"the name of a field must be text, not {_shown(name)}"
        if sum(len(self.values_of(name)) for name in self.filters) > MOST_VALUES:
            yield f"the filters have more than {MOST_VALUES:,} values"
        for name in self.filters:
            for value in self.values_of(name):
                if value is None or isinstance(value, (Mapping, list, tuple, set, frozenset, bytes)):
                    yield f"a value of the filter {_shown(name)} must be a text, a number, a time, true or false"

    def _problems_of_the_ranges(self) -> Iterator[str]:
        for name, bounds in self.ranges.items():
            if not isinstance(bounds, Mapping) or not bounds or not set(bounds) <= set(BOUNDS):
                yield f"the range of {name[:100]!r} must have some of {', '.join(BOUNDS)}, such as {{'gte': 1}}"
            if any(type(value) not in (str, int, float, datetime) for value in bounds.values()):
                yield f"a bound of {name[:100]!r} must be a number, a text or a time"

    def equals_of(self, name: str, fields: Fields) -> list[Any]:
        """The values of a filter as its field has them: numbers, text, or times in milliseconds since 1970."""
        return [fields.equal(name, value) for value in self.values_of(name)]

    def bounds_of(self, name: str, fields: Fields) -> dict[str, Any]:
        """The bounds of a range as its field has them: numbers, text, or times in milliseconds since 1970."""
        return {bound: fields.comparable(name, value) for bound, value in self.ranges[name].items()}


def _shown(value: Any) -> str:
    return repr(value)[:100]


class PageEnd(NamedTuple):
    """Where a page ended: what its last hit was sorted by, how many hits there are, and what its store remembers."""

    values: list[Any]
    total: int
    store: str
    """The index, so that a rebuild between two pages is noticed; a point in time, where there is one."""


def cursor(search: Search, alias: str, place: PageEnd) -> str:
    """An opaque text for it, that no other search takes."""
    return base64.urlsafe_b64encode(payload.dumps([_digest(search, alias), *place]).encode()).decode().rstrip("=")


def place_of(search: Search, alias: str) -> PageEnd | None:
    """Where the page before ended; None for a first page. Raises QueryRefused for a cursor of anything else."""
    if search.after is None or search.after == START:
        return None
    try:
        padded = search.after + "=" * (-len(search.after) % 4)
        digest, values, total, store = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise QueryRefused(NO_CURSOR) from None
    plain = isinstance(values, list) and all(each is None or type(each) in (str, int, float) for each in values)
    if (
        not plain
        or unstorable_text([values, store])
        or type(total) is not int
        or not isinstance(store, str)
        or total < 0
    ):
        raise QueryRefused(NO_CURSOR)
    if digest != _digest(search, alias):
        raise QueryRefused(f"the cursor is of another search than this one; begin with {START!r}")
    return PageEnd(values, total, store)


def _digest(search: Search, alias: str) -> str:
    """Of all that decides which documents come in which order."""
    filters = sorted((name, search.values_of(name)) for name in search.filters)
    ranges = sorted((name, sorted(bounds.items())) for name, bounds in search.ranges.items())
    asked = [alias, search.text, search.match, filters, ranges, list(search.sort)]
    return hashlib.blake2b(repr(asked).encode(), digest_size=12).hexdigest()


def iso(milliseconds: int) -> str:
    """A time in milliseconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
