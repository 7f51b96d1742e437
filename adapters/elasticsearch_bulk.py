"""Writes documents to Elasticsearch in bulks, and in halves what is refused as a whole. ElasticsearchStore calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from actionbus.projections.errors import DocumentsRefused, IndexMissing, StoreRefused, StoreUnavailable
from actionbus.projections.projection import RESERVED
from actionbus.projections.store import Write

TOO_BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses that may be others in a moment."""
BUSY: Final = 429
_BULK_BYTES: Final = 8_000_000
"""Well below the 100 MB that Elasticsearch takes by default (`http.max_content_length`)."""

Post = Callable[[bytes], Mapping[str, Any]]
"""Sends a bulk in JSON lines; its answer. Raises errors of stores."""
_Refused = tuple[str, int, str]
"""A document's key, its version and why it was refused."""


class NoRoom(StoreUnavailable):
    """It has no room for a request, now or, if the request alone is too big for it, ever."""


def write(post: Post, writes: Sequence[Write]) -> list[Write]:
    """Write documents; those that were there already, in this version or a later one.

    Raises DocumentsRefused with those that were refused, once the others are written.
    """
    refused: list[_Refused] = []
    there: list[Write] = []
    bulk: list[tuple[Write, bytes]] = []
    size = 0
    for each in writes:
        lines = _lines(each)
        if bulk and size + len(lines) > _BULK_BYTES:
            refused += _send(post, bulk, there)
            bulk, size = [], 0
        bulk.append((each, lines))
        size += len(lines)
    if bulk:
        refused += _send(post, bulk, there)
    if refused:
        raise DocumentsRefused(refused, there)
    return there


def error_of(kind: str, reason: str, status: int = 0) -> StoreUnavailable | IndexMissing:
    """What it means that an answer holds an error in place of an item."""
    if "index_not_found" in kind:
        return IndexMissing(reason)
    return (NoRoom if status == BUSY else StoreUnavailable)(f"Elasticsearch refuses for now: {kind}: {reason}")


def _send(post: Post, bulk: Sequence[tuple[Write, bytes]], there: list[Write]) -> list[_Refused]:
    """Write a bulk; what was refused of it, with what was there already added to `there`.

    One that is refused as a whole for what is in it is sent in halves.
    """
    try:
        return _send_at_once(post, bulk, there)
    except (StoreRefused, NoRoom):
        _see_that_small_ones_are_taken(post, bulk[0][0].key)
    if half := len(bulk) // 2:
        return _send(post, bulk[:half], there) + _send(post, bulk[half:], there)
    try:
        return _send_at_once(post, bulk, there)  # once more: what was too busy may just have become less so
    except (StoreRefused, NoRoom) as error:
        alone, lines = bulk[0]
        return [(alone.key, alone.version, f"{error} (alone, with {len(lines):,} bytes)")]


def _see_that_small_ones_are_taken(post: Post, key: str) -> None:
    """Send a bulk that changes nothing. Raises what any request meets now, however small."""
    _items(post(b'{"update":{"_id":%b}}\n{"doc":{}}\n' % orjson.dumps(key)))


def _send_at_once(post: Post, bulk: Sequence[tuple[Write, bytes]], there: list[Write]) -> list[_Refused]:
    refused = []
    answer = post(b"".join(lines for _, lines in bulk))
    for (each, _), item in zip(bulk, _items(answer), strict=False):
        status, error = item["status"], item.get("error", {})
        if status == 409:
            there.append(each)
        elif status >= 300:
            why = f"{error.get('type', '')}: {error.get('reason', f'status {status}')}"
            refused.append((each.key, each.version, why))
    return refused


def _items(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of the items of a bulk; nothing where all were taken. Raises what is no matter of one item."""
    items = [next(iter(item.values())) for item in answer["items"]] if answer["errors"] else []
    for item in items:
        status, kind = item["status"], item.get("error", {}).get("type", "")
        if status in TOO_BUSY or status == 403 or "block" in kind or "index_not_found" in kind:
            raise error_of(kind, item["error"].get("reason", ""), status)
    return items


def _lines(write: Write) -> bytes:
    kind = b"external_gte" if write.mends else b"external"
    head = b'{"index":{"_id":%b,"version":%d,"version_type":"%b"}}\n' % (orjson.dumps(write.key), write.version, kind)
    if write.text is None:
        return b'%b{"%b":{"position":%d,"deleted_at":"%b"}}\n' % (
            head,
            RESERVED.encode(),
            write.version,
            (write.deleted_at or "").encode(),
        )
    comma = b"" if write.text == b"{}" else b","
    return b'%b%b%b"%b":{"position":%d}}\n' % (head, write.text[:-1], comma, RESERVED.encode(), write.version)
