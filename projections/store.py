"""Store, the small interface to where documents are kept; `adapters` has one for Elasticsearch and an embedded one.

Every document has a version: the position of the last record folded into it. A store takes a write only if its version
is greater than the one it has, deleted documents included: a delete leaves a tombstone, which keeps its version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

_OURS: Final = "actionbus"


def index_name(projection: str, version: int, rest: str) -> str:
    """What an index of ours is called: unlike anybody's own, such as `odds-vendors` beside a projection `odds`."""
    return f"{projection}-v{version}-{_OURS}-{rest}"


def index_pattern(projection: str) -> str:
    """Which names the indices of a projection have."""
    return f"{projection}-v*-{_OURS}-*"


class Stored(NamedTuple):
    """A document as a store has it; `document` is None in a tombstone."""

    version: int
    document: dict[str, Any] | None


class Write(NamedTuple):
    """A document to be written: JSON text of an object, or None for a tombstone made at `deleted_at` (ISO 8601)."""

    key: str
    version: int
    text: bytes | None
    deleted_at: str | None = None

    def document(self) -> dict[str, Any] | None:
        """The document, decoded; None for a tombstone."""
        found: dict[str, Any] | None = None if self.text is None else orjson.loads(self.text)
        return found


@dataclass(frozen=True)
class IndexInfo:
    """What was stored with an index when it was created: which projection it is of, and of which journal."""

    name: str
    projection: str
    version: int
    journal: str
    pruned_to: int = 0
    """The greatest version of a tombstone that was cleared away."""


@dataclass(frozen=True)
class Hit:
    """A document found."""

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


@dataclass(frozen=True)
class Search:
    """Words in the fields mapped as text, exact values of fields (one or any of several), facets, a page."""

    text: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)
    facets: Sequence[str] = ()
    limit: int = 20
    offset: int = 0


class Store(ABC):
    """All methods raise StoreUnavailable when the store does not answer, IndexMissing when there is no such index."""

    @abstractmethod
    def describe(self) -> str:
        """What and where it is, without secrets, for people."""

    @abstractmethod
    def create_index(
        self, info: IndexInfo, mappings: Mapping[str, Any], settings: Mapping[str, Any], *, loading: bool
    ) -> None:
        """Create it unless it is there; `loading` tunes it for many writes and no search."""

    @abstractmethod
    def finish_loading(self, index: str, settings: Mapping[str, Any]) -> None:
        """Give a loaded index its real settings, and make everything in it visible."""

    @abstractmethod
    def info(self, index: str) -> IndexInfo:
        """What was stored with the index."""

    @abstractmethod
    def set_pruned_to(self, index: str, position: int) -> None:
        """Remember how far tombstones are cleared."""

    @abstractmethod
    def indices(self, projection: str) -> list[str]:
        """The names of those indices that say of themselves that they are of a projection, of whatever journal."""

    @abstractmethod
    def delete_index(self, index: str) -> None:
        """Remove it, if it is there. Whose it is was asked before, see `Catalogue.remove`."""

    @abstractmethod
    def get_many(self, index: str, keys: Collection[str]) -> dict[str, Stored]:
        """The documents and tombstones with these keys, as last written, visible to searches or not."""

    @abstractmethod
    def write_many(self, index: str, writes: Sequence[Write]) -> None:
        """Write them; those whose version is not greater than the stored one are there already and left out.

        Raises DocumentsRefused for documents that the index cannot take, after writing the others.
        """

    @abstractmethod
    def highest_version(self, index: str) -> int:
        """The greatest version in the index, tombstones included; 0 if it is empty."""

    @abstractmethod
    def count(self, index: str) -> int:
        """The number of documents, without tombstones."""

    @abstractmethod
    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, Stored]]:
        """All documents, in no order."""

    @abstractmethod
    def sample(self, index: str, size: int) -> list[str]:
        """Keys of some documents."""

    @abstractmethod
    def greatest_tombstone(self, index: str, below: int, before: str) -> int:
        """The greatest version, up to `below`, of a tombstone made before an ISO 8601 time; 0 if there is none."""

    @abstractmethod
    def clear_tombstones(self, index: str, below: int, before: str) -> int:
        """Remove tombstones of versions up to `below` that were made before an ISO 8601 time; how many."""

    @abstractmethod
    def refresh(self, index: str) -> None:
        """Make what was written visible to searches."""

    @abstractmethod
    def aliased(self, alias: str) -> str | None:
        """The index that readers see under `alias`, or None, as after that index was deleted.

        It is `alias` itself where an index has that name, which no alias can then be given.
        """

    @abstractmethod
    def point_alias(self, alias: str, index: str) -> None:
        """From now on readers of `alias` see `index` alone, without a moment between; tombstones are hidden."""

    @abstractmethod
    def get(self, alias: str, key: str) -> dict[str, Any] | None:
        """A document by its key, as last written."""

    @abstractmethod
    def search(self, alias: str, search: Search) -> Hits:
        """Raises QueryRefused."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""
