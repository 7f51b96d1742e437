"""Store, the small interface to where documents are kept; `adapters` has one for Elasticsearch and an embedded one.

Every document has a version: the position of the last record folded into it. A store takes a write only if its version
is greater than the one it has, deleted documents included: a delete leaves a tombstone, which keeps its version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import orjson

from actionbus.projections.search import Hits, Search

_OURS: Final = "actionbus"


def index_name(projection: str, version: int, rest: str) -> str:
    """What an index of ours is called: unlike anybody's own, such as `odds-vendors` beside a projection `odds`."""
    return f"{projection}-v{version}-{_OURS}-{rest}"


def index_pattern(projection: str) -> str:
    """Which names the indices of a projection have."""
    return f"{projection}-v*-{_OURS}-*"


class StoredDocument(NamedTuple):
    """A document as a store has it; `document` is None in a tombstone."""

    version: int
    document: dict[str, Any] | None


class Write(NamedTuple):
    """A document to be written: JSON text of an object, or None for a tombstone made at `deleted_at` (ISO 8601)."""

    key: str
    version: int
    text: bytes | None
    deleted_at: str | None = None
    mends: bool = False
    """Whether it also replaces what is stored at the same version."""

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
    incarnation: str = ""
    """Of the database that feeds it, which its copies have not; empty in a store that is copied along with it."""
    is_durable: bool = True
    """Whether it keeps in a crash all that it has acknowledged."""


class Totals(NamedTuple):
    """What an index holds in all."""

    documents: int
    """How many documents, without tombstones."""
    versions: int
    """The sum of their versions, which tells that one is not as it was written last."""
    highest: int
    """The greatest version, tombstones included; 0 if it is empty."""


class Store(ABC):
    """All methods raise StoreUnavailable when the store does not answer, IndexMissing when there is no such index,
    StoreUnsuitable when it cannot work with what answers."""

    is_apart: ClassVar[bool] = True
    """Whether it lies outside of the journal's database, so that it is not copied or restored along with that, and
    other databases can write to it."""

    @abstractmethod
    def describe(self) -> str:
        """What and where it is, without secrets, for people."""

    @abstractmethod
    def create_index(
        self, info: IndexInfo, mappings: Mapping[str, Any], settings: Mapping[str, Any], *, loading: bool
    ) -> None:
        """Create it unless it is there; `loading` tunes it for many writes and no search."""

    @abstractmethod
    def finish_loading(self, index: str) -> None:
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
    def get_many(self, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        """The documents and tombstones with these keys, as last written, visible to searches or not."""

    @abstractmethod
    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        """Write them; those whose version is not greater than the stored one are left out, and told by a store that
        is apart.

        Raises DocumentsRefused for documents that the index cannot take, after writing the others.
        """

    @abstractmethod
    def totals(self, index: str) -> Totals:
        """What was written so far, in all."""

    def lineage(self, _index: str) -> str:
        """What changes whenever the index may have lost something since it was last asked, as by a restart."""
        return ""

    def has_its_copies(self, _index: str) -> bool:
        """Whether as many copies of it are there as can be: one by one, servers make them of a new index."""
        return True

    @abstractmethod
    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, StoredDocument]]:
        """All documents, in no order."""

    @abstractmethod
    def sample(self, index: str, size: int) -> list[str]:
        """Keys of at most `size` documents of an index, by chance."""

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
        """A page of what readers of `alias` find. Raises QueryRefused.

        IndexMissing also for a name that is in use for something else than an index of ours.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections; called when it is done with."""
