"""EmbeddedStore keeps documents in a database: the application's own, so that it needs no search server at all.

What is searched are the words that `words.py` cuts; how, says `embedded_search.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError, DataError, SQLAlchemyError

from actionbus.adapters.embedded_dialects import PAGE, Dialect, PostgresDialect, SqliteDialect
from actionbus.adapters.embedded_search import EmbeddedSearch
from actionbus.adapters.words import indexed_words, texts_of
from actionbus.core.storage.ddl import verbatim
from actionbus.core.storage.names import in_text, quoted
from actionbus.projections.errors import DocumentsRefused, IndexMissing, QueryRefused, StoreRefused, StoreUnavailable
from actionbus.projections.fields import Fields, milliseconds
from actionbus.projections.search import Hits, Search
from actionbus.projections.store import IndexInfo, Store, StoredDocument, Totals, Write

log = logging.getLogger("actionbus.projections")
_BEYOND_LIMITS: Final = "54"
"""SQLSTATEs of PostgreSQL that are about a document, such as one with more words than a `tsvector` takes."""

_FIRST_PAGE: Final = 50
"""Documents in the first of several answers, before it is known how big they are."""
_PAGE_BYTES: Final = 8_000_000
"""How big an answer may be, about."""

_OLD: Final = """FROM {p}projection_documents
    WHERE index_name = :name AND document IS NULL AND version <= :below AND deleted_at < :before"""


class EmbeddedStore(Store):
    """Documents in the tables `projection_*` of an engine's database, made when first needed."""

    is_apart = False

    def __init__(self, engine: Engine, schema: str | None = None) -> None:
        self._engine = engine
        is_postgresql = engine.dialect.name == "postgresql"
        self._dialect: Dialect = PostgresDialect() if is_postgresql else SqliteDialect()
        self._schema = schema if is_postgresql else "main"
        self._prefix = f"{quoted(self._schema)}." if self._schema else ""
        self._is_ready = False
        self._mapped: dict[str, Fields] = {}

    def describe(self) -> str:
        return f"the embedded store ({self._engine.dialect.name})"

    def close(self) -> None:
        """The engine is its owner's to close."""

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DataError:
            raise
        except DatabaseError as error:
            if str(getattr(error.orig, "pgcode", "")).startswith(_BEYOND_LIMITS):
                raise DataError(error.statement, error.params, error.orig or error) from error
            if error.connection_invalidated or "locked" in str(error) or "readonly" in str(error.orig):
                raise StoreUnavailable(f"the database refuses for now: {error.orig}") from error
            raise StoreRefused(f"the database does not accept this: {error.orig}") from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the database cannot be reached: {error}") from error

    def _create_tables(self) -> None:
        with self._begin() as connection:
            if self._dialect.first:
                connection.execute(text(self._dialect.first))
            for statement in self._dialect.tables:
                connection.execute(verbatim(statement.replace("{p}", self._prefix)))
        self._is_ready = True

    def _has_tables(self) -> bool:
        """Whether the tables are there. Asked without a write, for a handler that reads holds SQLite's only lock."""
        if not self._is_ready:
            with self._begin() as connection:
                self._is_ready = inspect(connection).has_table("projection_documents", schema=self._schema)
        return self._is_ready

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        if not self._has_tables():
            if not statement.startswith("INSERT"):
                raise IndexMissing("nothing was ever projected")
            self._create_tables()
        with self._begin() as connection:
            result = connection.execute(text(statement.replace("{p}", in_text(self._prefix))), values)
            return list(result) if result.returns_rows else []

    def create_index(
        self, info: IndexInfo, mappings: Mapping[str, Any], settings: Mapping[str, Any], *, loading: bool
    ) -> None:
        self._rows(
            "INSERT INTO {p}projection_indices (name, projection, version, journal, pruned_to, mappings) "
            "VALUES (:name, :projection, :version, :journal, :pruned_to, :mappings) ON CONFLICT (name) DO NOTHING",
            name=info.name,
            projection=info.projection,
            version=info.version,
            journal=info.journal,
            pruned_to=info.pruned_to,
            mappings=orjson.dumps(dict(mappings)).decode(),
        )

    def finish_loading(self, index: str) -> None:
        """Nothing to do: nothing is tuned for loading."""

    def info(self, index: str) -> IndexInfo:
        rows = self._rows(
            "SELECT name, projection, version, journal, pruned_to FROM {p}projection_indices WHERE name = :name",
            name=index,
        )
        if not rows:
            raise IndexMissing(f"no such index: {index}")
        return IndexInfo(*rows[0])

    def _fields(self, index: str) -> Fields:
        if index not in self._mapped:
            rows = self._rows("SELECT mappings FROM {p}projection_indices WHERE name = :name", name=index)
            if not rows:
                raise IndexMissing(f"no such index: {index}")
            self._mapped[index] = Fields(orjson.loads(rows[0][0]))
        return self._mapped[index]

    def set_pruned_to(self, index: str, position: int) -> None:
        self._rows("UPDATE {p}projection_indices SET pruned_to = :to WHERE name = :name", to=position, name=index)

    def indices(self, projection: str) -> list[str]:
        if not self._has_tables():
            return []
        rows = self._rows(
            "SELECT name FROM {p}projection_indices WHERE projection = :projection ORDER BY name", projection=projection
        )
        return [row.name for row in rows]

    def delete_index(self, index: str) -> None:
        if not self._has_tables():
            return
        tables = f"{in_text(self._prefix)}projection_"
        with self._begin() as connection:
            for table, column in (("aliases", "index_name"), ("documents", "index_name"), ("indices", "name")):
                connection.execute(text(f"DELETE FROM {tables}{table} WHERE {column} = :name"), {"name": index})

    def get_many(self, index: str, keys: Collection[str]) -> dict[str, StoredDocument]:
        self._fields(index)
        found: dict[str, StoredDocument] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), PAGE):
            condition, page = self._dialect.is_one_of(wanted[start : start + PAGE])
            rows = self._rows(
                "SELECT key, version, document FROM {p}projection_documents WHERE index_name = :name AND " + condition,
                name=index,
                keys=page,
            )
            found |= {row.key: StoredDocument(row.version, _decoded(row.document)) for row in rows}
        return found

    def write_many(self, index: str, writes: Sequence[Write]) -> list[Write]:
        fields = self._fields(index)
        for mends in (False, True):
            chosen = [write for write in writes if write.mends == mends]
            rows = [self._row(index, write, fields) for write in chosen]
            try:
                self._upsert(rows, "<=" if mends else "<")
            except DataError:
                self._write_one_by_one(chosen, rows)
        return []

    def _row(self, index: str, write: Write, fields: Fields) -> tuple[Any, ...]:
        if write.text is None:
            return (index, write.key, write.version, None, None, None, write.deleted_at, *self._dialect.beside(None))
        is_read = bool(fields.texts or fields.dates)
        document = orjson.loads(write.text) if is_read else {}
        words = indexed_words(document, fields.texts) if fields.texts else None
        text = None if words is None else f" {' '.join(words)} "
        dates = _dates(document, fields)
        return (index, write.key, write.version, write.text.decode(), text, dates, None, *self._dialect.beside(words))

    def _write_one_by_one(self, writes: Sequence[Write], rows: Sequence[tuple[Any, ...]]) -> None:
        refused = []
        for write, row in zip(writes, rows, strict=True):
            try:
                self._upsert([row], "<=" if write.mends else "<")
            except DataError as error:
                refused.append((write.key, write.version, str(error.orig).strip()))
        if refused:
            raise DocumentsRefused(refused)

    def _upsert(self, rows: Sequence[tuple[Any, ...]], older: str) -> None:
        if not rows:
            return
        kept = ("version", "document", "words", "dates", "deleted_at", *self._dialect.columns)
        into = f"INSERT INTO {self._prefix}projection_documents AS d (index_name, key, {', '.join(kept)})"
        changed = ", ".join(f"{column} = excluded.{column}" for column in kept)
        tail = f" ON CONFLICT (index_name, key) DO UPDATE SET {changed} WHERE d.version {older} excluded.version"
        with self._begin() as connection:
            self._dialect.insert(connection, into, tail, rows)

    def totals(self, index: str) -> Totals:
        rows = self._rows(
            "SELECT count(document), sum(CASE WHEN document IS NOT NULL THEN version END), max(version) "
            "FROM {p}projection_documents WHERE index_name = :name",
            name=index,
        )
        return Totals(*(int(each or 0) for each in rows[0]))

    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, StoredDocument]]:
        after, size = "", _FIRST_PAGE
        alive = "" if tombstones else "AND document IS NOT NULL "
        while True:
            rows = self._rows(
                "SELECT key, version, document FROM {p}projection_documents "
                f"WHERE index_name = :name AND key > :after {alive}ORDER BY key LIMIT :size",
                name=index,
                after=after,
                size=size,
            )
            weight = max((len(row.document or "") for row in rows), default=0)
            for row in rows:
                yield row.key, StoredDocument(row.version, _decoded(row.document))
            if len(rows) < size:
                return
            after, size = rows[-1].key, min(PAGE, max(1, _PAGE_BYTES // max(1, weight)))

    def sample(self, index: str, size: int) -> list[str]:
        rows = self._rows(
            "SELECT key FROM {p}projection_documents WHERE index_name = :name AND document IS NOT NULL "
            "ORDER BY random() LIMIT :size",
            name=index,
            size=size,
        )
        return [row.key for row in rows]

    def greatest_tombstone(self, index: str, below: int, before: str) -> int:
        rows = self._rows(f"SELECT max(version) {_OLD}", name=index, below=below, before=before)
        return int(rows[0][0] or 0)

    def clear_tombstones(self, index: str, below: int, before: str) -> int:
        return len(self._rows(f"DELETE {_OLD} RETURNING key", name=index, below=below, before=before))

    def refresh(self, index: str) -> None:
        """What is committed can be seen."""

    def aliased(self, alias: str) -> str | None:
        if not self._has_tables():
            return None
        rows = self._rows("SELECT index_name FROM {p}projection_aliases WHERE alias = :alias", alias=alias)
        return str(rows[0][0]) if rows else None

    def point_alias(self, alias: str, index: str) -> None:
        self.info(index)
        self._rows(
            "INSERT INTO {p}projection_aliases (alias, index_name) VALUES (:alias, :name) "
            "ON CONFLICT (alias) DO UPDATE SET index_name = excluded.index_name",
            alias=alias,
            name=index,
        )

    def _index_of(self, alias: str) -> str:
        index = self.aliased(alias)
        if index is None:
            raise IndexMissing(f"no such index: {alias}")
        return index

    def get(self, alias: str, key: str) -> dict[str, Any] | None:
        found = self.get_many(self._index_of(alias), [key]).get(key)
        return found.document if found else None

    def search(self, alias: str, search: Search) -> Hits:
        try:
            return self._search(alias, search)
        except (DataError, StoreRefused) as error:
            log.info("a search was refused", exc_info=error)
            raise QueryRefused("the database cannot run this search; look at its words and fields") from error

    def _search(self, alias: str, search: Search) -> Hits:
        index = self._index_of(alias)
        return EmbeddedSearch(self._rows, self._dialect, self._fields(index), alias, index, search).hits()


def _dates(document: Mapping[str, Any], fields: Fields) -> str | None:
    """The times in a document, in milliseconds since 1970, by the fields that are mapped as dates."""
    found = {
        name: [at for each in texts_of(document, name) if (at := milliseconds(each)) is not None]
        for name in fields.dates
    }
    return orjson.dumps(found).decode() if found else None


def _decoded(document: str | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if document is None else orjson.loads(document)
    return found
