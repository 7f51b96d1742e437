"""ElasticsearchStore keeps documents in an Elasticsearch cluster, versioned by `version_type=external`.

What is ours in a stored document lies under `actionbus`: the position that is its version, and in a tombstone when it
was deleted. Needs the extra: pip install 'actionbus[elasticsearch]'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import orjson

from actionbus.projections.errors import DocumentsRefused, IndexMissing, QueryRefused, StoreRefused, StoreUnavailable
from actionbus.projections.projection import RESERVED
from actionbus.projections.store import Hit, Hits, IndexInfo, Search, Store, Stored, Write, index_pattern

try:
    from elasticsearch import (
        ApiError,
        BadRequestError,
        Elasticsearch,
        NotFoundError,
        OrjsonSerializer,
        TransportError,
        __version__,
    )
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError("Elasticsearch needs the extra: pip install 'actionbus[elasticsearch]'") from error

_POSITION: Final = f"{RESERVED}.position"
_DELETED: Final = f"{RESERVED}.deleted_at"
_OURS: Final = {"properties": {"position": {"type": "long"}, "deleted_at": {"type": "date"}}}
_ALIVE: Final = {"bool": {"must_not": {"exists": {"field": _DELETED}}}}
_NDJSON: Final = {"content-type": f"application/vnd.elasticsearch+x-ndjson; compatible-with={__version__[0]}",
                  "accept": f"application/vnd.elasticsearch+json; compatible-with={__version__[0]}"}  # fmt: skip
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}", re.ASCII)
_PAGE: Final = 1_000
_TOO_BUSY: Final = frozenset({429, 502, 503, 504})
_BUSY: Final = 429
_BULK_BYTES: Final = 8_000_000


class _Busy(StoreUnavailable):
    """It has no room for a request, now or, if the request alone is too big for it, ever."""


class ElasticsearchStore(Store):
    """`url` may carry a user and password; `options` go to the client (`api_key`, `basic_auth`, `ca_certs`, …).

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
        self._client = Elasticsearch(
            url, request_timeout=timeout, max_retries=2, retry_on_timeout=True, retry_on_status=(429, 502, 503, 504),
            serializer=OrjsonSerializer(), **options,
        )  # fmt: skip
        self._where = url.rsplit("@", 1)[-1].removeprefix("http://").removeprefix("https://")
        self._text_fields: dict[str, list[str]] = {}

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
        tuned = {"refresh_interval": "-1", "number_of_replicas": 0, "auto_expand_replicas": False} if loading else {}
        meta = {RESERVED: {"projection": info.projection, "version": info.version, "journal": info.journal,
                           "pruned_to": info.pruned_to}}  # fmt: skip
        properties = {**mappings.get("properties", {}), RESERVED: _OURS}
        with _told():
            # Without it a write that comes late, after its index was removed, would conjure it up again.
            self._client.indices.put_index_template(
                name=f"actionbus-{self._real(info.projection)}", template={}, allow_auto_create=False, priority=500,
                index_patterns=[self._real(index_pattern(info.projection))],
            )  # fmt: skip
            if self._client.indices.exists(index=self._real(info.name)):
                return
            try:
                self._client.indices.create(
                    index=self._real(info.name), settings={**_flat(settings), **tuned},
                    mappings={**mappings, "properties": properties, "_meta": {**mappings.get("_meta", {}), **meta}},
                )  # fmt: skip
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise

    def finish_loading(self, index: str, settings: Mapping[str, Any]) -> None:
        real = _flat(settings)
        restored = {name: real.get(name) for name in ("refresh_interval", "number_of_replicas", "auto_expand_replicas")}
        with _told():
            self._client.indices.put_settings(index=self._real(index), settings=restored)
        self.refresh(index)

    def info(self, index: str) -> IndexInfo:
        meta = _meta_of(self._mapping(index))
        return IndexInfo(index, meta.get("projection", ""), meta.get("version", 0), meta.get("journal", ""),
                         meta.get("pruned_to", 0))  # fmt: skip

    def _mapping(self, index: str) -> dict[str, Any]:
        with _told():
            found = self._client.indices.get_mapping(index=self._real(index)).body
        mapping: dict[str, Any] = next(iter(found.values()))["mappings"]
        return mapping

    def set_pruned_to(self, index: str, position: int) -> None:
        meta = self._mapping(index).get("_meta", {})
        changed = {**meta, RESERVED: {**meta.get(RESERVED, {}), "pruned_to": position}}
        with _told():
            self._client.indices.put_mapping(index=self._real(index), meta=changed)

    def indices(self, projection: str) -> list[str]:
        with _told():
            found = self._client.indices.get_mapping(index=self._real(index_pattern(projection))).body
        ours = (name for name, each in found.items() if _meta_of(each["mappings"]).get("projection") == projection)
        return sorted(name.removeprefix(self._prefix) for name in ours)

    def delete_index(self, index: str) -> None:
        with _told():
            self._client.indices.delete(index=self._real(index), ignore_unavailable=True)

    def get_many(self, index: str, keys: Collection[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _PAGE):
            with _told():
                docs = self._client.mget(index=self._real(index), ids=wanted[start : start + _PAGE]).body["docs"]
            for doc in docs:
                if "error" in doc:
                    raise _whole(doc["error"].get("type", ""), doc["error"].get("reason", ""))
                if doc.get("found"):
                    found[doc["_id"]] = _stored(doc["_source"])
        return found

    def write_many(self, index: str, writes: Sequence[Write]) -> None:
        refused: list[tuple[str, int, str]] = []
        bulk: list[tuple[Write, bytes]] = []
        size = 0
        for write in writes:
            lines = _lines(write)
            if bulk and size + len(lines) > _BULK_BYTES:
                refused += self._send(index, bulk)
                bulk, size = [], 0
            bulk.append((write, lines))
            size += len(lines)
        if bulk:
            refused += self._send(index, bulk)
        if refused:
            raise DocumentsRefused(refused)

    def _send(self, index: str, bulk: Sequence[tuple[Write, bytes]]) -> list[tuple[str, int, str]]:
        """Write a bulk; what was refused of it. One that is refused as a whole for what is in it is sent in halves."""
        try:
            return self._bulk(index, bulk)
        except (StoreRefused, _Busy):
            self._see_that_small_ones_are_taken(index, bulk[0][0].key)
        if half := len(bulk) // 2:
            return self._send(index, bulk[:half]) + self._send(index, bulk[half:])
        try:
            return self._bulk(index, bulk)  # once more: what was too busy may just have become less so
        except (StoreRefused, _Busy) as error:
            write, lines = bulk[0]
            return [(write.key, write.version, f"{error} (alone, with {len(lines):,} bytes)")]

    def _see_that_small_ones_are_taken(self, index: str, key: str) -> None:
        """Send a bulk that changes nothing. Raises what any request meets now, however small."""
        self._post(index, b'{"update":{"_id":%b}}\n{"doc":{}}\n' % orjson.dumps(key))

    def _post(self, index: str, body: bytes) -> list[dict[str, Any]]:
        """What became of the items of a bulk; nothing where all were taken. Raises what is no matter of one item."""
        path = f"/{self._real(index)}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
        with _told():
            answer = self._client.perform_request("POST", path, headers=_NDJSON, body=body).body
        items = [next(iter(item.values())) for item in answer["items"]] if answer["errors"] else []
        for item in items:
            status, kind = item["status"], item.get("error", {}).get("type", "")
            if status in _TOO_BUSY or status == 403 or "block" in kind or "index_not_found" in kind:
                raise _whole(kind, item["error"].get("reason", ""), status)
        return items

    def _bulk(self, index: str, bulk: Sequence[tuple[Write, bytes]]) -> list[tuple[str, int, str]]:
        refused = []
        for (write, _), item in zip(bulk, self._post(index, b"".join(lines for _, lines in bulk)), strict=False):
            status, error = item["status"], item.get("error", {})
            if status >= 300 and status != 409:  # 409: this version, or a later one, is there already
                why = f"{error.get('type', '')}: {error.get('reason', f'status {status}')}"
                refused.append((write.key, write.version, why))
        return refused

    def highest_version(self, index: str) -> int:
        self.refresh(index)
        with _told():
            answer = self._client.search(
                index=self._real(index), size=0, aggs={"highest": {"max": {"field": _POSITION}}}
            )
        return int(answer.body["aggregations"]["highest"]["value"] or 0)

    def count(self, index: str) -> int:
        self.refresh(index)
        with _told():
            return int(self._client.count(index=self._real(index), query=_ALIVE).body["count"])

    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, Stored]]:
        query = {"match_all": {}} if tombstones else _ALIVE
        for hit in self._pages(index, query):
            yield hit["_id"], _stored(hit["_source"])

    def _pages(self, index: str, query: Mapping[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        self.refresh(index)
        with _told():
            pit = self._client.open_point_in_time(index=self._real(index), keep_alive="5m").body["id"]
        after: dict[str, Any] = {}
        try:
            while True:
                with _told():
                    page = self._client.search(
                        pit={"id": pit, "keep_alive": "5m"}, query=query, size=_PAGE, sort=["_shard_doc"],
                        track_total_hits=False, **after, **more,
                    ).body["hits"]["hits"]  # fmt: skip
                yield from page
                if len(page) < _PAGE:
                    return
                after = {"search_after": page[-1]["sort"]}
        finally:
            with _told():
                self._client.close_point_in_time(id=pit)

    def sample(self, index: str, size: int) -> list[str]:
        query = {"function_score": {"query": _ALIVE, "random_score": {}}}
        with _told():
            hits = self._client.search(index=self._real(index), query=query, size=size, source=False).body["hits"][
                "hits"
            ]
        return [hit["_id"] for hit in hits]

    def greatest_tombstone(self, index: str, below: int, before: str) -> int:
        self.refresh(index)
        with _told():
            answer = self._client.search(index=self._real(index), size=0, query=_old(below, before),
                                         aggs={"greatest": {"max": {"field": _POSITION}}})  # fmt: skip
        return int(answer.body["aggregations"]["greatest"]["value"] or 0)

    def clear_tombstones(self, index: str, below: int, before: str) -> int:
        cleared = 0
        page: list[dict[str, Any]] = []
        for hit in self._pages(index, _old(below, before), seq_no_primary_term=True, source=False):
            where = {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
            page.append({"delete": {"_id": hit["_id"], **where}})
            if len(page) == _PAGE:
                cleared += self._delete(index, page)
                page = []
        return cleared + (self._delete(index, page) if page else 0)

    def _delete(self, index: str, operations: Sequence[Mapping[str, Any]]) -> int:
        with _told():
            answer = self._client.bulk(index=self._real(index), operations=operations).body
        return sum(item["delete"]["status"] == 200 for item in answer["items"])

    def refresh(self, index: str) -> None:
        with _told():
            self._client.indices.refresh(index=self._real(index))

    def aliased(self, alias: str) -> str | None:
        found = next(iter(self._all_aliased(alias)), None)
        return found and found.removeprefix(self._prefix)

    def _all_aliased(self, alias: str) -> list[str]:
        """The real names of what readers of an alias see; more than one only if somebody else made it so.

        It is the name itself where that is no alias but an index.
        """
        try:
            with _told():
                return sorted(self._client.indices.get_alias(index=self._real(alias)).body)
        except IndexMissing:
            return []

    def point_alias(self, alias: str, index: str) -> None:
        name, real = self._real(alias), self._real(index)
        add = {"add": {"index": real, "alias": name, "filter": _ALIVE, "is_write_index": False}}
        others = [each for each in self._all_aliased(alias) if each != real]
        remove = [{"remove": {"index": each, "alias": name}} for each in others]
        with _told():
            self._client.indices.update_aliases(actions=[*remove, add])

    def get(self, alias: str, key: str) -> dict[str, Any] | None:
        with _told():
            docs = self._client.mget(index=self._real(alias), ids=[key]).body["docs"]
        if "error" in docs[0]:
            raise _whole(docs[0]["error"].get("type", ""), docs[0]["error"].get("reason", ""))
        return _stored(docs[0]["_source"]).document if docs[0].get("found") else None

    def search(self, alias: str, search: Search) -> Hits:
        fields = self._fields(alias)
        filters = [_filter(name, value) for name, value in search.filters.items()]
        words = {"multi_match": {"query": search.text, "fields": fields, "type": "cross_fields", "operator": "and"}}
        query = {"bool": {"must": [words] if search.text else [], "filter": filters}}
        try:
            with _told():
                answer = self._client.search(
                    index=self._real(alias), query=query, size=search.limit, from_=search.offset, track_total_hits=True,
                    aggs={name: {"terms": {"field": name, "size": 50}} for name in search.facets},
                    highlight={"encoder": "html", "fields": {name: {"number_of_fragments": 0} for name in fields}},
                ).body  # fmt: skip
        except StoreRefused as error:
            raise QueryRefused(str(error).replace(self._real(self.aliased(alias) or alias), alias)) from None
        hits = [
            Hit(hit["_id"], float(hit["_score"] or 0), _stored(hit["_source"]).document or {}, hit.get("highlight", {}))
            for hit in answer["hits"]["hits"]
        ]
        facets = {
            name: {str(bucket["key"]): bucket["doc_count"] for bucket in found["buckets"]}
            for name, found in answer.get("aggregations", {}).items()
        }
        return Hits(answer["hits"]["total"]["value"], hits, facets)

    def _fields(self, alias: str) -> list[str]:
        """The fields that are mapped as text, of the index that the alias shows now."""
        index = self.aliased(alias) or alias
        if index not in self._text_fields:
            properties = self._mapping(index).get("properties", {})
            found = [name for name, each in properties.items() if each.get("type") == "text"]
            self._text_fields[index] = found or ["*"]
        return self._text_fields[index]


def _meta_of(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What we stored with an index; nothing of what is not ours, whatever it looks like."""
    found = mapping.get("_meta", {}).get(RESERVED, {})
    return found if isinstance(found, dict) else {}


def _old(below: int, before: str) -> dict[str, Any]:
    return {"bool": {"filter": [{"range": {_POSITION: {"lte": below}}}, {"range": {_DELETED: {"lt": before}}}]}}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    found = {**settings, **settings.get("index", {})}
    found.pop("index", None)
    if "number_of_replicas" not in found:
        found.setdefault("auto_expand_replicas", "0-1")
    return found


def _filter(name: str, value: Any) -> dict[str, Any]:
    return {"terms": {name: list(value)}} if isinstance(value, (list, tuple, set)) else {"term": {name: value}}


def _stored(source: dict[str, Any]) -> Stored:
    ours = source.pop(RESERVED, {})
    return Stored(int(ours.get("position", 0)), None if "deleted_at" in ours else source)


def _lines(write: Write) -> bytes:
    head = b'{"index":{"_id":%b,"version":%d,"version_type":"external"}}\n' % (orjson.dumps(write.key), write.version)
    if write.text is None:
        return b'%b{"%b":{"position":%d,"deleted_at":"%b"}}\n' % (
            head, RESERVED.encode(), write.version, (write.deleted_at or "").encode())  # fmt: skip
    comma = b"" if write.text == b"{}" else b","
    return b'%b%b%b"%b":{"position":%d}}\n' % (head, write.text[:-1], comma, RESERVED.encode(), write.version)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the client raises into errors of stores; other refusals pass through as they are."""
    try:
        yield
    except NotFoundError as error:
        raise IndexMissing(_reason(error)) from None
    except ApiError as error:
        status = error.meta.status
        if status == _BUSY:
            raise _Busy(f"Elasticsearch refuses for now ({status}): {_reason(error)}") from error
        if status in _TOO_BUSY or status in (401, 403) or status >= 500:
            raise StoreUnavailable(f"Elasticsearch refuses for now ({status}): {_reason(error)}") from error
        raise StoreRefused(f"Elasticsearch does not accept this ({status}): {_reason(error)}") from error
    except TransportError as error:
        raise StoreUnavailable(f"Elasticsearch cannot be reached: {error.message}") from error


def _whole(kind: str, reason: str, status: int = 0) -> StoreUnavailable | IndexMissing:
    if "index_not_found" in kind:
        return IndexMissing(reason)
    return (_Busy if status == _BUSY else StoreUnavailable)(f"Elasticsearch refuses for now: {kind}: {reason}")


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error", {})
    causes = inner.get("root_cause") or ([inner] if inner else []) if isinstance(inner, dict) else []
    return "; ".join(str(cause.get("reason", cause)) for cause in causes) or HTTPStatus(error.meta.status).phrase
