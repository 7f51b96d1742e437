"""EmbeddedStore keeps documents in a database: the application's own, so that it needs no search server at all.

Words are found by FTS5 on SQLite and by `tsvector` on PostgreSQL, in the fields that the mappings call text.
"""

from __future__ import annotations

import html
import logging
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError, DataError, SQLAlchemyError

from actionbus.core.storage.backend import in_text, quoted
from actionbus.core.storage.ddl import verbatim
from actionbus.projections.errors import DocumentsRefused, IndexMissing, QueryRefused, StoreRefused, StoreUnavailable
from actionbus.projections.store import Hit, Hits, IndexInfo, Search, Store, Stored, Write

log = logging.getLogger("actionbus.projections")
_PAGE: Final = 500
_BEYOND_LIMITS: Final = "54"
"""SQLSTATEs of PostgreSQL that are about a document, such as one with more words than a `tsvector` takes."""
_FACET_SIZE: Final = 50
_WORD: Final = re.compile(r"\w+")
_WORD_OR_NOT: Final = re.compile(r"\w+|\W+")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*", re.ASCII)

_SQLITE: Final = (
    """CREATE TABLE IF NOT EXISTS {p}projection_indices (
    name TEXT PRIMARY KEY, projection TEXT NOT NULL, version INTEGER NOT NULL, journal TEXT NOT NULL,
    pruned_to INTEGER NOT NULL DEFAULT 0, text_fields TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS {p}projection_aliases (alias TEXT PRIMARY KEY, index_name TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS {p}projection_documents (
    id INTEGER PRIMARY KEY, index_name TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
    document TEXT, words TEXT, deleted_at TEXT, UNIQUE (index_name, key))""",
    """CREATE VIRTUAL TABLE IF NOT EXISTS {p}projection_words USING fts5(
    words, content='projection_documents', content_rowid='id', tokenize='unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER IF NOT EXISTS {p}projection_words_insert AFTER INSERT ON projection_documents
    WHEN NEW.words IS NOT NULL
    BEGIN INSERT INTO projection_words(rowid, words) VALUES (NEW.id, NEW.words); END""",
    """CREATE TRIGGER IF NOT EXISTS {p}projection_words_update AFTER UPDATE ON projection_documents
    WHEN OLD.words IS NOT NULL OR NEW.words IS NOT NULL
    BEGIN
    INSERT INTO projection_words(projection_words, rowid, words)
        SELECT 'delete', OLD.id, OLD.words WHERE OLD.words IS NOT NULL;
    INSERT INTO projection_words(rowid, words) SELECT NEW.id, NEW.words WHERE NEW.words IS NOT NULL;
    END""",
    """CREATE TRIGGER IF NOT EXISTS {p}projection_words_delete AFTER DELETE ON projection_documents
    WHEN OLD.words IS NOT NULL
    BEGIN INSERT INTO projection_words(projection_words, rowid, words) VALUES ('delete', OLD.id, OLD.words); END""",
)
_POSTGRESQL: Final = (
    """CREATE TABLE IF NOT EXISTS {p}projection_indices (
    name text PRIMARY KEY, projection text NOT NULL, version integer NOT NULL, journal text NOT NULL,
    pruned_to bigint NOT NULL DEFAULT 0, text_fields text NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS {p}projection_aliases (alias text PRIMARY KEY, index_name text NOT NULL)",
    """CREATE TABLE IF NOT EXISTS {p}projection_documents (
    index_name text NOT NULL, key text NOT NULL, version bigint NOT NULL, document text, words text,
    deleted_at text, search tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(words, ''))) STORED,
    PRIMARY KEY (index_name, key))""",
    "CREATE INDEX IF NOT EXISTS projection_search ON {p}projection_documents USING gin (search)",
)

_OLD: Final = """FROM {p}projection_documents
    WHERE index_name = :name AND document IS NULL AND version <= :below AND deleted_at < :before"""


class EmbeddedStore(Store):
    """Documents in the tables `projection_*` of an engine's database, made when first needed."""

    def __init__(self, engine: Engine, schema: str | None = None) -> None:
        self._engine = engine
        self._postgresql = engine.dialect.name == "postgresql"
        self._schema = schema if self._postgresql else "main"
        self._prefix = f"{quoted(self._schema)}." if self._schema else ""
        self._is_ready = False
        self._text_fields: dict[str, list[str]] = {}

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
            if self._postgresql:
                # CREATE ... IF NOT EXISTS by two sessions at once can fail; one after the other it cannot.
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('actionbus embedded store'))"))
            for statement in _POSTGRESQL if self._postgresql else _SQLITE:
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
        fields = [name for name, each in mappings.get("properties", {}).items() if each.get("type") == "text"]
        self._rows(
            "INSERT INTO {p}projection_indices (name, projection, version, journal, pruned_to, text_fields) "
            "VALUES (:name, :projection, :version, :journal, :pruned_to, :fields) ON CONFLICT (name) DO NOTHING",
            name=info.name, projection=info.projection, version=info.version, journal=info.journal,
            pruned_to=info.pruned_to, fields=",".join(fields),
        )  # fmt: skip

    def finish_loading(self, index: str, settings: Mapping[str, Any]) -> None:
        """Nothing was tuned."""

    def info(self, index: str) -> IndexInfo:
        rows = self._rows(
            "SELECT name, projection, version, journal, pruned_to FROM {p}projection_indices WHERE name = :name",
            name=index,
        )
        if not rows:
            raise IndexMissing(f"no such index: {index}")
        return IndexInfo(*rows[0])

    def _fields(self, index: str) -> list[str]:
        if index not in self._text_fields:
            rows = self._rows("SELECT text_fields FROM {p}projection_indices WHERE name = :name", name=index)
            if not rows:
                raise IndexMissing(f"no such index: {index}")
            self._text_fields[index] = [name for name in rows[0][0].split(",") if name]
        return self._text_fields[index]

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

    def get_many(self, index: str, keys: Collection[str]) -> dict[str, Stored]:
        self._fields(index)
        found: dict[str, Stored] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            values: dict[str, Any]
            if self._postgresql:
                condition, values = "key = ANY(:keys)", {"keys": page}  # the driver makes an array of a list
            else:
                condition = "key IN (SELECT value FROM json_each(:keys))"
                values = {"keys": orjson.dumps(page).decode()}
            rows = self._rows(
                f"SELECT key, version, document FROM {{p}}projection_documents "
                f"WHERE index_name = :name AND {condition}",
                name=index, **values,
            )  # fmt: skip
            found |= {row.key: Stored(row.version, _decoded(row.document)) for row in rows}
        return found

    def write_many(self, index: str, writes: Sequence[Write]) -> None:
        fields = self._fields(index)
        rows = [_row(index, write, fields) for write in writes]
        try:
            self._upsert(rows)
        except DataError:
            self._write_one_by_one(writes, rows)

    def _write_one_by_one(self, writes: Sequence[Write], rows: Sequence[tuple[Any, ...]]) -> None:
        refused = []
        for write, row in zip(writes, rows, strict=True):
            try:
                self._upsert([row])
            except DataError as error:
                refused.append((write.key, write.version, str(error.orig).strip()))
        if refused:
            raise DocumentsRefused(refused)

    def _upsert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        mark = "%s" if self._postgresql else "?"
        columns = "index_name, key, version, document, words, deleted_at"
        marks = f"({', '.join([mark] * 6)})"
        tail = (
            " ON CONFLICT (index_name, key) DO UPDATE SET version = excluded.version, document = excluded.document, "
            "words = excluded.words, deleted_at = excluded.deleted_at "
            "WHERE d.version < excluded.version"
        )
        prefix = self._prefix.replace("%", "%%") if self._postgresql else self._prefix
        into = f"INSERT INTO {prefix}projection_documents AS d ({columns}) VALUES "
        if not self._postgresql:
            with self._begin() as connection:
                connection.exec_driver_sql(f"{into}{marks}{tail}", list(rows))
            return
        with self._begin() as connection:
            for start in range(0, len(rows), _PAGE):
                page = rows[start : start + _PAGE]
                statement = f"{into}{', '.join([marks] * len(page))}{tail}"
                connection.exec_driver_sql(statement, tuple(value for row in page for value in row))

    def highest_version(self, index: str) -> int:
        rows = self._rows("SELECT max(version) FROM {p}projection_documents WHERE index_name = :name", name=index)
        return int(rows[0][0] or 0)

    def count(self, index: str) -> int:
        rows = self._rows(
            "SELECT count(*) FROM {p}projection_documents WHERE index_name = :name AND document IS NOT NULL", name=index
        )
        return int(rows[0][0])

    def scan(self, index: str, *, tombstones: bool = False) -> Iterator[tuple[str, Stored]]:
        after = ""
        alive = "" if tombstones else "AND document IS NOT NULL "
        while True:
            rows = self._rows(
                "SELECT key, version, document FROM {p}projection_documents "
                f"WHERE index_name = :name AND key > :after {alive}ORDER BY key LIMIT :size",
                name=index, after=after, size=_PAGE,
            )  # fmt: skip
            for row in rows:
                yield row.key, Stored(row.version, _decoded(row.document))
            if len(rows) < _PAGE:
                return
            after = rows[-1].key

    def sample(self, index: str, size: int) -> list[str]:
        rows = self._rows(
            "SELECT key FROM {p}projection_documents WHERE index_name = :name AND document IS NOT NULL "
            "ORDER BY random() LIMIT :size",
            name=index, size=size,
        )  # fmt: skip
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
            alias=alias, name=index,
        )  # fmt: skip

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
        words = _WORD.findall(search.text)
        fields = self._fields(index)
        where, values = self._where(index, words, search.filters)
        source = "{p}projection_documents AS d"
        if words and not self._postgresql:
            source += " JOIN {p}projection_words ON projection_words.rowid = d.id"
        score = "0.0"
        if words:
            score = "ts_rank(search, to_tsquery('simple', :words))" if self._postgresql else "-bm25(projection_words)"
        rows = self._rows(
            f"SELECT d.key, d.document, {score} AS score FROM {source} WHERE {where} "
            "ORDER BY score DESC, d.key LIMIT :limit OFFSET :offset",
            limit=search.limit, offset=search.offset, **values,
        )  # fmt: skip
        total = self._rows(f"SELECT count(*) FROM {source} WHERE {where}", **values)[0][0]
        hits = []
        for row in rows:
            document = _decoded(row.document) or {}
            hits.append(Hit(row.key, float(row.score), document, _highlights(document, fields, words)))
        return Hits(total, hits, {name: self._facet(name, source, where, values) for name in search.facets})

    def _where(self, index: str, words: Sequence[str], filters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        parts = ["d.index_name = :name", "d.document IS NOT NULL"]
        values: dict[str, Any] = {"name": index}
        if words:
            if self._postgresql:
                parts.append("search @@ to_tsquery('simple', :words)")
                values["words"] = " & ".join(words)
            else:
                parts.append("projection_words MATCH :words")
                values["words"] = " ".join(f'"{word}"' for word in words)
        for number, (name, value) in enumerate(filters.items()):
            several = list(value) if isinstance(value, (list, tuple, set)) else [value]
            parts.append(self._has(name, f"filter{number}"))
            values[f"filter{number}"] = orjson.dumps([_as_text(each) for each in several]).decode()
        return " AND ".join(parts), values

    def _each(self, name: str) -> tuple[str, str, str]:
        """A field's values, each of a list: what to select from, the value as text, and what must hold of it."""
        if not _FIELD.fullmatch(name):
            raise QueryRefused(f"{name!r} is not the name of a field")
        if self._postgresql:
            found = f"(d.document::jsonb #> '{{{name.replace('.', ',')}}}')"
            several = f"CASE jsonb_typeof({found}) WHEN 'array' THEN {found} ELSE jsonb_build_array({found}) END"
            return f"jsonb_array_elements_text({several}) AS v(value)", "v.value", "v.value IS NOT NULL"
        # JSON's booleans are 0 and 1 to SQLite; `type` tells them.
        told = "CASE WHEN v.type IN ('true', 'false') THEN v.type ELSE CAST(v.atom AS TEXT) END"
        return f"json_tree(d.document, '$.{name}') AS v", told, "v.atom IS NOT NULL"

    def _has(self, name: str, parameter: str) -> str:
        wanted = (
            f"SELECT jsonb_array_elements_text(CAST(:{parameter} AS jsonb))"
            if self._postgresql
            else f"SELECT value FROM json_each(:{parameter})"
        )
        source, value, condition = self._each(name)
        return f"EXISTS (SELECT 1 FROM {source} WHERE {condition} AND {value} IN ({wanted}))"

    def _facet(self, name: str, source: str, where: str, values: Mapping[str, Any]) -> dict[str, int]:
        each, value, condition = self._each(name)
        rows = self._rows(
            f"SELECT {value}, count(DISTINCT d.key) FROM {source}, {each} WHERE {where} AND {condition} "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_FACET_SIZE}",
            **values,
        )
        return {str(row[0]): int(row[1]) for row in rows}


def _row(index: str, write: Write, fields: Sequence[str]) -> tuple[Any, ...]:
    if write.text is None:
        return (index, write.key, write.version, None, None, write.deleted_at)
    document = write.text.decode()
    words = _words(orjson.loads(write.text), fields) if fields else None
    return (index, write.key, write.version, document, words, None)


def _words(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text of the text fields. NUL, which no text column can hold, separates words."""
    return "\n".join(each for name in fields for each in _texts(document.get(name))).replace("\0", " ")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _decoded(document: str | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if document is None else orjson.loads(document)
    return found


def _as_text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _highlights(document: Mapping[str, Any], fields: Sequence[str], words: Sequence[str]) -> dict[str, list[str]]:
    wanted = {_folded(word) for word in words}
    found: dict[str, list[str]] = {}
    for name in fields:
        marked = [_marked(each, wanted) for each in _texts(document.get(name))]
        if changed := [each for each in marked if each is not None]:
            found[name] = changed
    return found


def _marked(text: str, wanted: Collection[str]) -> str | None:
    """HTML in which the words that were looked for stand out, or None if there are none of them."""
    parts = _WORD_OR_NOT.findall(text)
    hits = [bool(_WORD.match(part)) and _folded(part) in wanted for part in parts]
    if not any(hits):
        return None
    escaped = (html.escape(part) for part in parts)
    return "".join(f"<em>{part}</em>" if hit else part for part, hit in zip(escaped, hits, strict=True))


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFD", word.casefold())
    return "".join(each for each in plain if not unicodedata.combining(each))
