"""ElasticsearchSearch carries out one search in a cluster; `elasticsearch.py` makes one for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final, NamedTuple

from elasticsearch import Elasticsearch

from actionbus.adapters.highlights import LOOKED_THROUGH
from actionbus.adapters.words import is_paired, phrases_in, without_tail
from actionbus.projections.errors import IndexMissing, QueryRefused, StoreError
from actionbus.projections.fields import Fields
from actionbus.projections.projection import RESERVED
from actionbus.projections.search import NO_CURSOR, REBUILT, START, Hit, Hits, PageEnd, Search, cursor, iso, place_of
from actionbus.projections.store import StoredDocument

DELETED: Final = f"{RESERVED}.deleted_at"
ALIVE: Final = {"bool": {"must_not": {"exists": {"field": DELETED}}}}
_KEEP: Final = "5m"
"""How long a point in time is kept from one page to the next."""
_BEST_FIRST: Final = ["_score"]
_FACET_SIZE: Final = 50
_EXPANSIONS: Final = 10_000
"""Words that a prefix behind others may go on to."""

Told = Callable[[], AbstractContextManager[None]]
"""Turns what the client raises into errors of stores."""


class Names(NamedTuple):
    """Of what readers see and the index that it is now: for people, and in the cluster."""

    alias: str
    index_name: str
    real_alias: str
    real_index: str


class ElasticsearchSearch:
    """`fields` are those of the index."""

    def __init__(self, client: Elasticsearch, told: Told, names: Names, fields: Fields, search: Search) -> None:
        self._client = client
        self._told = told
        self._names = names
        self._fields = fields
        self._search = search

    def hits(self) -> Hits:
        """The page that is asked for."""
        search, order = self._search, _sorted_by(self._search, self._fields)
        place = place_of(search, self._names.alias)
        if place and len(place.values) != len(order) + 1:
            raise QueryRefused(NO_CURSOR)
        with self._told_of_cursors():
            answer = self._client.search(
                **self._where(place),
                query=self._query(),
                size=search.limit,
                sort=order,
                aggs=_facets_of(search),
                track_total_hits=place is None,
                track_scores=order == _BEST_FIRST,
                highlight=_highlighted(self._fields),
                allow_partial_search_results=False,
            ).body
        total = place.total if place else answer["hits"]["total"]["value"]
        hits = answer["hits"]["hits"]
        return Hits(total, [_hit(each) for each in hits], _counted(answer), self._next(hits, total, answer))

    def _query(self) -> dict[str, Any]:
        """What is deleted is hidden here, too: somebody may have given the alias by hand, without its filter.

        A point in time that a cursor names may be of any index there is, so a query through it says of which.
        """
        among = [ALIVE] if self._search.after is None else [ALIVE, {"term": {"_index": self._names.real_index}}]
        return {"bool": {"must": [query_of(self._search, self._fields)], "filter": among}}

    def _where(self, place: PageEnd | None) -> dict[str, Any]:
        """What readers see now; or with a cursor what they saw when its first page was read."""
        if self._search.after is None:
            return {"index": self._names.real_alias, "from_": self._search.offset}
        if place is None:
            opened = self._client.open_point_in_time(index=self._names.real_alias, keep_alive=_KEEP)
            return {"pit": {"id": opened.body["id"], "keep_alive": _KEEP}}
        index, _, point = place.store.partition("/")
        if index != self._names.index_name:
            raise QueryRefused(REBUILT)
        return {"pit": {"id": point, "keep_alive": _KEEP}, "search_after": place.values}

    @contextmanager
    def _told_of_cursors(self) -> Iterator[None]:
        try:
            with self._told():
                yield
        except IndexMissing:
            if self._search.after in (None, START):
                raise
            raise QueryRefused(f"the cursor has expired, {_KEEP} after its page; begin with {START!r}") from None

    def _next(self, hits: list[Any], total: int, answer: Mapping[str, Any]) -> str | None:
        if self._search.after is None:
            return None
        if len(hits) == self._search.limit:
            store = f"{self._names.index_name}/{answer['pit_id']}"
            return cursor(self._search, self._names.alias, PageEnd(hits[-1]["sort"], total, store))
        with suppress(StoreError), self._told():
            self._client.close_point_in_time(id=answer["pit_id"])
        return None


def query_of(search: Search, fields: Fields) -> dict[str, Any]:
    """Everything that decides which documents are found."""
    filters = [_equal(name, search, fields) for name in search.filters]
    filters += [_within(name, search, fields) for name in search.ranges]
    if not search.has_text:
        return {"bool": {"filter": filters}}
    if not phrases_in(search.text) or not fields.texts:
        return {"match_none": {}}
    return {"bool": {"must": _parts(search, fields), "filter": filters}}


def _equal(name: str, search: Search, fields: Fields) -> dict[str, Any]:
    """One of the values. A time is bounded on both sides, since only so can be told how it is written."""
    values = search.equals_of(name, fields)
    if fields.kind_of(name) != "date":
        field = fields.exact.get(name)
        return {"terms": {name: [_plain(each) for each in values if field is None or field.holds(each)]}}
    times = ({"gte": iso(at), "lte": iso(at), "format": "strict_date_optional_time"} for at in values)
    return {"bool": {"should": [{"range": {name: at}} for at in times], "minimum_should_match": 1}}


def _within(name: str, search: Search, fields: Fields) -> dict[str, Any]:
    """Between the bounds. One that no value of the type reaches is refused there: it bounds all values, or none."""
    bounds, field = search.bounds_of(name, fields), fields.exact[name]
    if field.kind == "date":
        bounds = {bound: iso(at) for bound, at in bounds.items()} | {"format": "strict_date_optional_time"}
        return {"range": {name: bounds}}
    reached = {bound: _plain(value) for bound, value in bounds.items() if field.holds(value)}
    if any((value > 0) == bound.startswith("g") for bound, value in bounds.items() if bound not in reached):
        return {"match_none": {}}
    return {"range": {name: reached}} if reached else {"exists": {"field": name}}


def _plain(value: Any) -> Any:
    """A whole number with all its digits: -2**63 as a float is written as less than the least long."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**63 else value


def _parts(search: Search, fields: Fields) -> list[dict[str, Any]]:
    """What is written without a space between stands side by side, whatever words the fields' analyzer makes of it.

    A part may be nothing to that analyzer, such as a word that it leaves out; not all of them may.
    """
    if search.match == "phrase":
        return [_words(search.text, fields, "phrase", zero_terms_query="none")]
    texts = [part for part in dict.fromkeys(search.text.split()) if phrases_in(part)]
    if search.match == "prefix":
        return [*(_words(text, fields, "phrase") for text in texts[:-1]), _beginning(texts[-1], fields)]
    anything = _words(search.text, fields, "best_fields", zero_terms_query="none")
    return [*(_words(text, fields, "phrase") for text in texts), {"bool": {"filter": anything}}]


def _beginning(written: str, fields: Fields) -> dict[str, Any]:
    """What begins with the last word. With a sign behind it Elasticsearch would take the word for a whole one."""
    text = without_tail(written)
    words = phrases_in(text)[0].words
    if len(words) == 1 and not is_paired(words[0]):
        return _words(text, fields, "bool_prefix", zero_terms_query="none")
    return _words(text, fields, "phrase_prefix", max_expansions=_EXPANSIONS, zero_terms_query="none")


def _words(text: str, fields: Fields, kind: str, **more: Any) -> dict[str, Any]:
    asked = {"query": text, "fields": fields.texts, "type": kind, "lenient": True, "zero_terms_query": "all"}
    return {"multi_match": asked | more}


def _sorted_by(search: Search, fields: Fields) -> list[Any]:
    """What fits best first, unless told otherwise; what has no value comes last."""
    found: list[Any] = []
    for name, descending in search.orders:
        fields.sortable(name)
        found.append({name: {"order": "desc" if descending else "asc", "missing": "_last"}})
    return found or _BEST_FIRST


def _facets_of(search: Search) -> dict[str, Any]:
    """What is counted, by field, as asked of Elasticsearch."""
    return {name: {"terms": {"field": name, "size": _FACET_SIZE}} for name in search.facets}


def _counted(answer: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How the hits spread over the facets."""
    return {
        name: {str(bucket["key"]): bucket["doc_count"] for bucket in found["buckets"]}
        for name, found in answer.get("aggregations", {}).items()
    }


def _highlighted(fields: Fields) -> dict[str, Any]:
    """Whole texts, as HTML; one too long to be looked through must not fail the search."""
    return {
        "encoder": "html",
        "max_analyzed_offset": LOOKED_THROUGH,
        "number_of_fragments": 0,
        "fields": {name: {} for name in fields.texts},
    }


def _hit(hit: dict[str, Any]) -> Hit:
    document = stored(hit["_source"]).document or {}
    return Hit(hit["_id"], float(hit["_score"] or 0), document, hit.get("highlight", {}))


def stored(source: dict[str, Any]) -> StoredDocument:
    """A document as it lies in the cluster, parted from what is ours in it."""
    ours = source.pop(RESERVED, {})
    return StoredDocument(int(ours.get("position", 0)), None if "deleted_at" in ours else source)
