"""es_repo, the dependency by which handlers and views read projections: search, get, pages, facets, highlights.

Its provider is `adapters.wiring.es_repo`; declare it `outside`, so that its calls are recorded with the outcome and
played back in a sandbox. Documents that the application keeps itself, not a projection, are written with `put` and
`remove`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from actionbus.core.values.payload import unstorable_text
from actionbus.projections.errors import UnknownProjection
from actionbus.projections.fed import is_name
from actionbus.projections.projection import Projection
from actionbus.projections.search import Hits, Match, Search
from actionbus.projections.store import IndexInfo, Store, Write, index_name

OWN = "own"
"""Stands for the journal in an index that no projection feeds."""


class EsRepo:
    """Reads the documents of projections, tombstones hidden, and of indices that the application keeps itself.

    Names of anything else, `_all` or patterns are refused. Of the projections given, only fields that their mappings
    declare are searched by: for whoever is asked by clients.
    """

    def __init__(self, store: Store, projections: Iterable[Any] = ()) -> None:
        self._store = store
        self._projections: dict[str, type[Projection]] = {each.name: each for each in projections}

    def get(self, projection: str, key: object) -> dict[str, Any] | None:
        """A document by its key, or None."""
        self._refuse_other_names(projection)
        text = str(key)
        return self._store.get(projection, text) if text and not unstorable_text(text) else None

    def search(
        self,
        projection: str,
        text: str = "",
        *,
        filters: Mapping[str, Any] | None = None,
        facets: Sequence[str] = (),
        limit: int = 20,
        offset: int = 0,
        match: Match = "words",
        ranges: Mapping[str, Mapping[str, Any]] | None = None,
        sort: Sequence[str] = (),
        after: str | None = None,
    ) -> Hits:
        """Documents whose text fields have all the words, and whose fields have a value of those in `filters`.

        With `match="phrase"` the words stand side by side; with "prefix" the last one may go on. `ranges` has by field
        some of `gt`, `gte`, `lt`, `lte`. `facets` are fields whose values are counted over all hits. `sort` names
        fields, with `-` before those that descend; by default what fits best comes first. `after="*"` begins pages that
        lead to the very end: `hits.next` is the `after` of the next one. `offset` and `limit` lead to the 10,000th hit.

        Raises QueryRefused, UnknownProjection, IndexMissing (nothing was ever projected, or not by us) or
        StoreUnavailable.
        """
        self._refuse_other_names(projection)
        wanted = Search(
            text, dict(filters or {}), tuple(facets), limit, offset, match, dict(ranges or {}), tuple(sort), after
        )
        if declared := self._projections.get(projection):
            declared.refuse_undeclared(wanted.fields())
        return self._store.search(projection, wanted)

    def _refuse_other_names(self, name: str) -> None:
        """Where the application's projections are known, nobody else's are read."""
        is_known = is_name(name) and (not self._projections or name in self._projections)
        if not is_known and not (is_name(name) and self._store.aliased(name) == index_name(name, 1, OWN)):
            raise UnknownProjection(
                f"there is no projection {str(name)[:100]!r}, nor an index of the application's own"
            )

    def put(self, index: str, key: object, document: Mapping[str, Any], version: int) -> None:
        """Keep a document in an index of the application's own, unless a greater `version` is there already."""
        self._store.write_many(self._own(index), [Write(str(key), version, orjson.dumps(dict(document)))])

    def remove(self, index: str, key: object, version: int, at: str) -> None:
        """Remove a document of the application's own; `at` is when (ISO 8601), such as `clock.now().isoformat()`."""
        self._store.write_many(self._own(index), [Write(str(key), version, None, at)])

    def _own(self, index: str) -> str:
        """The real name of an index of the application's own, which is made when first needed."""
        if not is_name(index):
            raise ValueError(f"an index is named by a-z, 0-9 and _, first a letter, not {str(index)[:100]!r}")
        real = index_name(index, 1, OWN)
        served = self._store.aliased(index)
        if served is None:
            self._store.create_index(IndexInfo(real, index, 1, OWN), {}, {}, loading=False)
            self._store.point_alias(index, real)
        elif served != real:
            raise ValueError(f"{index!r} is fed by a projection; nobody else may write to it")
        return real
