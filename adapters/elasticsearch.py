"""ElasticsearchStore keeps documents in an Elasticsearch cluster, versioned by `version_type=external`.

What is ours in a stored document lies under `actionbus`: the position that is its version, and in a tombstone when it
was deleted. Needs the extra: pip install 'actionbus[elasticsearch]'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from elasticsearch import BadRequestError, Elasticsearch

from actionbus.adapters import elasticsearch_bulk
from actionbus.adapters.elasticsearch_analysis import create_folded
from actionbus.adapters.elasticsearch_bulk import error_of
from actionbus.adapters.elasticsearch_client import NDJSON, client_for, hosts_of, told
from actionbus.adapters.elasticsearch_search import ALIVE, DELETED, ElasticsearchSearch, Names, stored
from actionbus.projections.errors import IndexMissing, QueryRefused, StoreRefused
from actionbus.projections.fields import Fields
from actionbus.projections.index_settings import DURABILITY, flat
from actionbus.projections.projection import RESERVED
from actionbus.projections.search import Hits, Search
from actionbus.projections.store import IndexInfo, Store, StoredDocument, Totals, Write, index_pattern

_POSITION: Final = f"{RESERVED}.position"
_OURS: Final = {"properties": {"position": {"type": "long"}, "deleted_at": {"type": "date"}}}
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}", re.ASCII)
_LOADING: Final = {"refresh_interval": "-1", "number_of_replicas": 0, "auto_expand_replicas": False}
"""Settings of an index that is loaded: many writes and no search."""
_PAGE: Final = 1_000
"""Documents in an answer; Elasticsearch gives at most 10,000."""
_FIRST_PAGE: Final = 50
"""In the first of several, before it is known how big documents are."""
_PAGE_BYTES: Final = 8_000_000
"""How big an answer may be, about."""


class ElasticsearchStore(Store):
    """`url` is that of a node, or of several with commas between, and may carry a user and password (percent-encoded);
    `options` go to the client (`api_key`, `basic_auth`, `ca_certs`, `client_cert`, `ssl_assert_fingerprint`, …).

    `prefix`, such as `staging-`, begins every name in the cluster, so that applications and environments can share
    one; it is this class's alone, all others know names without it.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, prefix: str = "", **options: Any) -> None:
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"{prefix!r} cannot begin the names of indices; use up to 50 of a-z, 0-9, _ and -, first a letter or "
                "digit, such as 'staging-'"
            )
        self._prefix = prefix
        hosts = hosts_of(url)
        self._client = client_for(hosts, timeout, options)
        self._where = ", ".join(each.split("://", 1)[1].rsplit("@", 1)[-1] for each in hosts)
        self._mapped: dict[str, Fields] = {}
        self._ours: set[str] = set()

    @property
    def client(self) -> Elasticsearch:
        """Elasticsearch's own client, for what the interface does not have."""
        return self._client

    def describe(self) -> str:
        return f"Elasticsearch at {self._where}" + (f" (names begin with {self._prefix})" if self._prefix else "")

    def _real(self, name: str) -> str:
        """The name in the cluster."""
        return self._prefix + name

    def close(self) -> None:
        self._client.close()

    def create_index(
        self, info: IndexInfo, mappings: Mapping[str, Any], settings: Mapping[str, Any], *, loading: bool
    ) -> None:
        properties = {**mappings.get("properties", {}), RESERVED: _OURS}
        ours = {
            "projection": info.projection,
            "version": info.version,
            "journal": info.journal,
            "pruned_to": info.pruned_to,
            "incarnation": info.incarnation,
        }
        meta = {**mappings.get("_meta", {}), RESERVED: ours}
        real, declared = self._real(info.name), flat(settings)
        with told():
            if self._client.indices.exists(index=real):
                return
            try:
                create_folded(
                    self._client,
                    real,
                    {**declared, DURABILITY: "request"},
                    {**mappings, "properties": properties, "_meta": meta},
                    {_written_as(real): {}},
                )
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
                return
        self._tune(info.name, declared, loading=loading)

    def _tune(self, index: str, declared: Mapping[str, Any], *, loading: bool) -> None:
        """Set what depends on the cluster; for loading, keep what it is to be afterwards: templates may have set it."""
        found = self._settings(index)
        settled = {name: found.get(f"index.{name}") for name in _LOADING}
        if "number_of_replicas" not in declared and settled["number_of_replicas"] == "1":
            settled["auto_expand_replicas"] = declared.get("auto_expand_replicas", "0-1")
        if loading:
            self._put_meta(index, settled=settled)
        with told():
            self._client.indices.put_settings(index=self._real(index), settings=_LOADING if loading else settled)

    def _settings(self, index: str) -> dict[str, Any]:
        with told():
            found = self._client.indices.get_settings(index=self._real(index), flat_settings=True).body
        settings: dict[str, Any] = next(iter(found.values()))["settings"]
        return settings

    def finish_loading(self, index: str) -> None:
        settled = _meta_of(self._mapping(index)).get("settled")
        if settled:
            with told():
                self._client.indices.put_settings(index=self._real(index), settings=settled)
        self.refresh(index)

    def info(self, index: str) -> IndexInfo:
        meta = _meta_of(self._mapping(index))
        durability = self._settings(index).get(f"index.{DURABILITY}", "request")
        return IndexInfo(
            index,
            meta.get("projection", ""),
            meta.get("version", 0),
            meta.get("journal", ""),
            meta.get("pruned_to", 0),
            meta.get("incarnation", ""),
            is_durable=str(durability).lower() == "request",
        )

    def _mapping(self, index: str) -> dict[str, Any]:
        with told():
            found = self._client.indices.get_mapping(index=self._real(index)).body
        mapping: dict[str, Any] = next(iter(found.values()))["mappings"]
        return mapping

    def set_pruned_to(self, index: str, position: int) -> None:
        self._put_meta(index, pruned_to=position)

    def _put_meta(self, index: str, **changes: Any) -> None:
        meta = self._mapping(index).get("_meta", {})
        changed = {**meta, RESERVED: {**meta.get(RESERVED, {}), **changes}}
        with told():
            self._client.indices.put_mapping(index=self._real(index), meta=changed)

    def indices(self, projection: str) -> list[str]:
        with told():
            found = self._client.indices.get_mapping(index=self._real(index_pattern(projection))).body
        ours = (name for name, each in found.items() if _meta_of(each["mappings"]).get("projection") == projection)
        return sorted(name.removeprefix(self._prefix) for name in ours)

    def delete_index(self, index: str) -> None:
        with told():
            self._client.indices.delete(index=self._real(index), ignore_unavailable=True)

    def get_many(self, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        found: dict[str, StoredDocument] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _PAGE):
            with told():
                docs = self._client.mget(index=self._real(index), ids=wanted[start : start + _PAGE]).body["docs"]
            for doc in docs:
                if "error" in doc:
                    raise error_of(doc["error"].get("type", ""), doc["error"].get("reason", ""))
                if doc.get("found"):
                    found[doc["_id"]] = stored(doc["_source"])
        return found

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        # By an alias of its own: a write that comes late, after its index was removed, would else conjure it up again.
        path = (
            f"/{_written_as(self._real(index))}/_bulk?require_alias=true"
            "&filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
        )

        def post(body: bytes) -> dict[str, Any]:
            with told():
                answer: dict[str, Any] = self._client.perform_request("POST", path, headers=NDJSON, body=body).body
            return answer

        try:
            return elasticsearch_bulk.write(post, writes)
        except IndexMissing:
            if not self._is_written_again(index):
                raise
            return elasticsearch_bulk.write(post, writes)

    def _is_written_again(self, index: str) -> bool:
        """Whether only the alias was not there, as after a restore without aliases; it is given back."""
        real = self._real(index)
        with told():
            if not self._client.indices.exists(index=real) or self._client.indices.exists_alias(
                name=_written_as(real), index=real
            ):
                return False
            self._client.indices.put_alias(index=real, name=_written_as(real))
        return True

    def totals(self, index: str) -> Totals:
        self.refresh(index)
        aggregations: dict[str, Mapping[str, Any]] = {
            "highest": {"max": {"field": _POSITION}},
            "alive": {"filter": ALIVE, "aggs": {"versions": {"sum": {"field": _POSITION}}}},
        }
        with told():
            answer = self._client.search(
                index=self._real(index), size=0, aggs=aggregations, allow_partial_search_results=False
            )
        found = answer.body["aggregations"]
        return Totals(
            found["alive"]["doc_count"], int(found["alive"]["versions"]["value"]), int(found["highest"]["value"] or 0)
        )

    def lineage(self, index: str) -> str:
        """Which copy of each shard is the primary one, and since when its server runs."""
        with told():
            found = self._client.search_shards(index=self._real(index)).body
        copies = [copy for group in found["shards"] for copy in group if copy["primary"]]
        return repr(
            sorted(
                (copy["shard"], str(copy.get("allocation_id")), str(found["nodes"].get(copy["node"])))
                for copy in copies
            )
        )

    def has_its_copies(self, index: str) -> bool:
        with told():
            found = self._client.cluster.health(
                index=self._real(index), wait_for_events="languid", wait_for_no_initializing_shards=True, timeout="5s"
            ).body
        return bool(found["status"] == "green" or not (found["timed_out"] or found["initializing_shards"]))

    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, StoredDocument]]:
        query = {"match_all": {}} if tombstones else ALIVE
        for hit in self._pages(index, query):
            yield hit["_id"], stored(hit["_source"])

    def _pages(self, index: str, query: Mapping[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        self.refresh(index)
        with told():
            pit = self._client.open_point_in_time(index=self._real(index), keep_alive="5m").body["id"]
        after: dict[str, Any] = {}
        size = _FIRST_PAGE
        try:
            while True:
                with told():
                    page = self._client.search(
                        pit={"id": pit, "keep_alive": "5m"},
                        query=query,
                        size=size,
                        sort=["_shard_doc"],
                        track_total_hits=False,
                        allow_partial_search_results=False,
                        **after,
                        **more,
                    ).body["hits"]["hits"]
                weight = max(
                    (len(orjson.dumps(hit.get("_source", {}))) for hit in page[:: 1 + len(page) // 8]), default=1
                )
                yield from page
                if len(page) < size:
                    return
                size = min(_PAGE, max(1, _PAGE_BYTES // weight))
                after = {"search_after": page[-1]["sort"]}
        finally:
            with told():
                self._client.close_point_in_time(id=pit)

    def sample(self, index: str, size: int) -> list[str]:
        query = {"function_score": {"query": ALIVE, "random_score": {}}}
        with told():
            hits = self._client.search(
                index=self._real(index), query=query, size=size, source=False, allow_partial_search_results=False
            ).body["hits"]["hits"]
        return [hit["_id"] for hit in hits]

    def greatest_tombstone(self, index: str, below: int, before: str) -> int:
        self.refresh(index)
        with told():
            answer = self._client.search(
                index=self._real(index),
                size=0,
                query=_old(below, before),
                aggs={"greatest": {"max": {"field": _POSITION}}},
                allow_partial_search_results=False,
            )
        return int(answer.body["aggregations"]["greatest"]["value"] or 0)

    def clear_tombstones(self, index: str, below: int, before: str) -> int:
        cleared = 0
        page: list[dict[str, Any]] = []
        for hit in self._pages(index, _old(below, before), version=True, source=False):
            # By its own version, so that it is no later one that Elasticsearch remembers for a minute.
            where = {"version": hit["_version"], "version_type": "external_gte"}
            page.append({"delete": {"_id": hit["_id"], **where}})
            if len(page) == _PAGE:
                cleared += self._delete(index, page)
                page = []
        return cleared + (self._delete(index, page) if page else 0)

    def _delete(self, index: str, operations: Sequence[Mapping[str, Any]]) -> int:
        with told():
            answer = self._client.bulk(index=self._real(index), operations=operations).body
        return sum(item["delete"]["status"] == 200 for item in answer["items"])

    def refresh(self, index: str) -> None:
        with told():
            self._client.indices.refresh(index=self._real(index))

    def aliased(self, alias: str) -> str | None:
        found = next(iter(self._all_aliased(alias)), None)
        return found and found.removeprefix(self._prefix)

    def _all_aliased(self, alias: str) -> list[str]:
        """The real names of what readers of an alias see; more than one only if somebody else made it so.

        It is the name itself where that is no alias but an index.
        """
        try:
            with told():
                return sorted(self._client.indices.get_alias(index=self._real(alias)).body)
        except IndexMissing:
            return []

    def point_alias(self, alias: str, index: str) -> None:
        name, real = self._real(alias), self._real(index)
        add = {"add": {"index": real, "alias": name, "filter": ALIVE, "is_write_index": False}}
        others = [each for each in self._all_aliased(alias) if each != real]
        remove = [{"remove": {"index": each, "alias": name}} for each in others]
        with told():
            self._client.indices.update_aliases(actions=[*remove, add])

    def get(self, alias: str, key: str) -> dict[str, Any] | None:
        with told():
            doc = self._client.mget(index=self._real(alias), ids=[key]).body["docs"][0]
        if "error" in doc:
            raise error_of(doc["error"].get("type", ""), doc["error"].get("reason", ""))
        if not doc.get("found"):
            return None
        self._refuse_foreign(alias, doc["_index"].removeprefix(self._prefix))
        return stored(doc["_source"]).document

    def _refuse_foreign(self, alias: str, index: str) -> None:
        if index not in self._ours:
            self._fields(alias, index)
            self._ours.add(index)

    def search(self, alias: str, search: Search) -> Hits:
        index = self.aliased(alias)
        if index is None:
            raise IndexMissing(f"no such index: {alias}")
        names = Names(alias, index, self._real(alias), self._real(index))
        try:
            return ElasticsearchSearch(self._client, told, names, self._fields(alias, index), search).hits()
        except StoreRefused as error:
            raise QueryRefused(str(error).replace(self._real(index), alias)) from None

    def _fields(self, alias: str, index: str) -> Fields:
        """What the mapping of the index says that the alias shows now. An index that is not ours is none."""
        if index in self._mapped:
            return self._mapped[index]
        mapping = self._mapping(index)
        if _meta_of(mapping).get("projection") != alias:
            raise IndexMissing(f"{alias} is no index of actionbus's")
        properties = {name: each for name, each in mapping.get("properties", {}).items() if name != RESERVED}
        fields = Fields({"properties": properties})
        if mapping.get("dynamic") in ("strict", "false"):  # others may have more fields by the next search
            self._mapped[index] = fields
        return fields


def _meta_of(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What we stored with an index; nothing of what is not ours, whatever it looks like."""
    found = mapping.get("_meta", {}).get(RESERVED, {})
    return found if isinstance(found, dict) else {}


def _old(below: int, before: str) -> dict[str, Any]:
    return {"bool": {"filter": [{"range": {_POSITION: {"lte": below}}}, {"range": {DELETED: {"lt": before}}}]}}


def _written_as(real: str) -> str:
    """The alias by which alone an index is written to; it goes with the index."""
    return f"{real}-writes"
