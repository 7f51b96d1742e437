"""es_repo, the dependency by which handlers and views read projections: search, get, pages, facets, highlights.

Its provider is `adapters.wiring.es_repo`; declare it `outside`, so that its calls are recorded with the outcome and
played back in a sandbox. Documents that the application keeps itself, not a projection, are written with `put` and
`remove`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from actionbus.projections.projection import Projection
from actionbus.projections.store import Hits, IndexInfo, Search, Store, Write, index_name

OWN = "own"
"""Stands for the journal in an index that no projection feeds."""


class EsRepo:
    """Reads the documents of projections, tombstones hidden.

    Of the projections given, only fields that their mappings declare are searched by: for whoever is asked by clients.
    """

    def __init__(self, store: Store, projections: Iterable[Any] = ()) -> None:
        self._store = store
        self._projections: dict[str, type[Projection]] = {each.name: each for each in projections}

    def get(self, projection: str, key: object) -> dict[str, Any] | None:
        """A document by its key, or None."""
        return self._store.get(projection, str(key))

    def search(
        self,
        projection: str,
        text: str = "",
        *,
        filters: Mapping[str, Any] | None = None,
        facets: Sequence[str] = (),
        limit: int = 20,
        offset: int = 0,
    ) -> Hits:
        """Documents whose text fields have all the words, and whose fields have a value of those in `filters`.

        `facets` are fields whose values are counted over all hits. Raises QueryRefused, IndexMissing (nothing was
        ever projected) or StoreUnavailable.
        """
        if declared := self._projections.get(projection):
            declared.refuse_undeclared([*(filters or ()), *facets])
        wanted = Search(text, dict(filters or {}), tuple(facets), limit, offset)
        return self._store.search(projection, wanted)

    def put(self, index: str, key: object, document: Mapping[str, Any], version: int) -> None:
        """Keep a document in an index of the application's own, unless a greater `version` is there already."""
        self._store.write_many(self._own(index), [Write(str(key), version, orjson.dumps(dict(document)))])

    def remove(self, index: str, key: object, version: int, at: str) -> None:
        """Remove a document of the application's own; `at` is when (ISO 8601), such as `clock.now().isoformat()`."""
        self._store.write_many(self._own(index), [Write(str(key), version, None, at)])

    def _own(self, index: str) -> str:
        """The real name of an index of the application's own, which is made when first needed."""
        real = index_name(index, 1, OWN)
        served = self._store.aliased(index)
        if served is None:
            self._store.create_index(IndexInfo(real, index, 1, OWN), {}, {}, loading=False)
            self._store.point_alias(index, real)
        elif served != real:
            raise ValueError(f"{index!r} is fed by a projection; nobody else may write to it")
        return real
