"""What differs between the two databases of the embedded store: tables, and how words and fields are looked for.

`EmbeddedStore` asks it. `{p}` stands for the prefix with the schema, until a statement is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection

from actionbus.adapters.words import GAP, Phrase
from actionbus.projections.fields import Kind

PAGE: Final = 500
"""Documents that one statement reads or writes: round trips weigh little by then, and few documents are in memory."""

_LAST_POSITION: Final = 16_383
_MOST_POSITIONS: Final = 255
"""Of a word in a tsvector."""

_SQLITE: Final = (
    """CREATE TABLE IF NOT EXISTS {p}projection_indices (
    name TEXT PRIMARY KEY, projection TEXT NOT NULL, version INTEGER NOT NULL, journal TEXT NOT NULL,
    pruned_to INTEGER NOT NULL DEFAULT 0, mappings TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS {p}projection_aliases (alias TEXT PRIMARY KEY, index_name TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS {p}projection_documents (
    id INTEGER PRIMARY KEY, index_name TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
    document TEXT, words TEXT, dates TEXT, deleted_at TEXT, UNIQUE (index_name, key))""",
    # The words are cut already; this tokenizer parts them at spaces.
    """CREATE VIRTUAL TABLE IF NOT EXISTS {p}projection_words USING fts5(
    words, content='projection_documents', content_rowid='id', tokenize="ascii tokenchars '_.,:;'''")""",
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
    pruned_to bigint NOT NULL DEFAULT 0, mappings text NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS {p}projection_aliases (alias text PRIMARY KEY, index_name text NOT NULL)",
    """CREATE TABLE IF NOT EXISTS {p}projection_documents (
    index_name text NOT NULL, key text NOT NULL, version bigint NOT NULL, document text, words text, dates text,
    deleted_at text, search tsvector, PRIMARY KEY (index_name, key))""",
    "CREATE INDEX IF NOT EXISTS projection_search ON {p}projection_documents USING gin (search)",
)


class Dialect(ABC):
    """Texts of SQL in which the two differ."""

    first: str | None = None
    """What to run before the tables are created."""
    tables: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """What documents have besides in this database; `beside` gives the values."""
    searched: str
    """What to select from where words are looked for, with the documents as `d`, …"""
    score: str
    """… and how well a document fits `:words`; more is better."""
    bytewise: str
    """The collation by which texts are compared byte by byte."""

    @abstractmethod
    def is_one_of(self, keys: Sequence[str]) -> tuple[str, Any]:
        """A condition that a document's key is one of `:keys`, and the value to bind to that."""

    @abstractmethod
    def matches(self, phrases: Sequence[Phrase]) -> tuple[str, dict[str, Any]]:
        """A condition that a document has all of them, and what to bind to it; `words` is bound in any case."""

    @abstractmethod
    def each(self, column: str, parameter: str) -> Values:
        """A field's values, each of a list, of the JSON in a column; its path is bound to a parameter."""

    @abstractmethod
    def path(self, names: Sequence[str]) -> str:
        """A field's path, name by name, as it is bound."""

    @abstractmethod
    def listed(self, parameter: str) -> str:
        """A query for the texts of a JSON array, which is bound to a parameter."""

    @abstractmethod
    def bound(self, parameter: str, kind: Kind) -> str:
        """A parameter as it is compared with values of a kind."""

    def beside(self, words: Sequence[str] | None) -> tuple[Any, ...]:
        """The values of `columns`, for a document with these words."""
        return ()

    @abstractmethod
    def insert(self, connection: Connection, into: str, tail: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, all of one length: `into`, VALUES, `tail`."""


class Values(NamedTuple):
    """A field's values: what to select from, what must hold of one, the value as text, and to be compared by kind."""

    source: str
    condition: str
    text: str
    number: str
    boolean: str

    def as_kind(self, kind: Kind) -> str:
        """The value as it is compared."""
        return {"number": self.number, "date": self.number, "boolean": self.boolean}.get(kind, self.text)


class SqliteDialect(Dialect):
    """Words by FTS5, fields by `json_tree`."""

    tables = _SQLITE
    # CROSS JOIN keeps to this order: words first. Left to itself, SQLite asks the words for each document in turn.
    searched = "{p}projection_words CROSS JOIN {p}projection_documents AS d ON d.id = projection_words.rowid"
    score = "-bm25(projection_words)"
    bytewise = "BINARY"

    def is_one_of(self, keys: Sequence[str]) -> tuple[str, Any]:
        return "key IN (SELECT value FROM json_each(:keys))", orjson.dumps(keys).decode()

    def matches(self, phrases: Sequence[Phrase]) -> tuple[str, dict[str, Any]]:
        found = (f'"{" ".join(each.words)}"' + (" *" if each.begins else "") for each in phrases)
        return "projection_words MATCH :words", {"words": " AND ".join(found)}

    def path(self, names: Sequence[str]) -> str:
        return "$" + "".join(f'."{each}"' for each in names)

    def each(self, column: str, parameter: str) -> Values:
        # JSON's booleans are 0 and 1 to SQLite; `type` tells them.
        text = "CASE WHEN v.type IN ('true', 'false') THEN v.type ELSE CAST(v.atom AS TEXT) END"
        number = "CASE WHEN v.type IN ('integer', 'real') THEN v.atom END"
        boolean = "CASE WHEN v.type IN ('true', 'false') THEN v.atom END"
        return Values(f"json_tree({column}, :{parameter}) AS v", "v.atom IS NOT NULL", text, number, boolean)

    def listed(self, parameter: str) -> str:
        return f"SELECT value FROM json_each(:{parameter})"

    def bound(self, parameter: str, kind: Kind) -> str:
        return f":{parameter}"

    def insert(self, connection: Connection, into: str, tail: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.exec_driver_sql(f"{into} VALUES {_marks('?', rows[0])}{tail}", list(rows))


class PostgresDialect(Dialect):
    """Words by `tsvector`, fields by `jsonb`."""

    # CREATE ... IF NOT EXISTS by two sessions at once can fail; one after the other it cannot.
    first = "SELECT pg_advisory_xact_lock(hashtext('actionbus embedded store'))"
    tables = _POSTGRESQL
    columns = ("search",)
    searched = "{p}projection_documents AS d"
    score = "CAST(ts_rank(search, CAST(:words AS tsquery)) AS double precision)"
    bytewise = '"C"'

    def is_one_of(self, keys: Sequence[str]) -> tuple[str, Any]:
        return "key = ANY(:keys)", list(keys)  # the driver makes an array of a list

    def matches(self, phrases: Sequence[Phrase]) -> tuple[str, dict[str, Any]]:
        """The index finds documents with all the words; what is to stand side by side is seen in their text.

        A tsvector's own positions end at 16,383.
        """
        lexemes = {(word, each.begins and word == each.words[-1]): None for each in phrases for word in each.words}
        values = {"words": " & ".join(_lexeme(word) + (":*" if begins else "") for word, begins in lexemes)}
        conditions = ["search @@ CAST(:words AS tsquery)"]
        for number, each in enumerate(phrases):
            if len(each.words) > 1:
                values[f"phrase{number}"] = f" {' '.join(each.words)}" + ("" if each.begins else " ")
                conditions.append(f"strpos(d.words, :phrase{number}) > 0")
        return " AND ".join(conditions), values

    def path(self, names: Sequence[str]) -> str:
        return orjson.dumps(names).decode()

    def each(self, column: str, parameter: str) -> Values:
        path = f"ARRAY(SELECT jsonb_array_elements_text(CAST(:{parameter} AS jsonb)))"
        # OFFSET 0 keeps the document from being read once for each time its value is named.
        found = f"LATERAL (SELECT CAST({column} AS jsonb) #> {path} AS found OFFSET 0) AS field"
        several = "CASE jsonb_typeof(found) WHEN 'array' THEN found ELSE jsonb_build_array(found) END"
        text = "(v.value #>> '{}')"
        return Values(
            f"{found}, jsonb_array_elements({several}) AS v(value)",
            f"{text} IS NOT NULL",
            text,
            f"CASE jsonb_typeof(v.value) WHEN 'number' THEN CAST({text} AS numeric) END",
            f"CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END",
        )

    def listed(self, parameter: str) -> str:
        return f"SELECT jsonb_array_elements_text(CAST(:{parameter} AS jsonb))"

    def bound(self, parameter: str, kind: Kind) -> str:
        return f"CAST(:{parameter} AS {'text' if kind in ('word', 'other') else 'numeric'})"

    def beside(self, words: Sequence[str] | None) -> tuple[Any, ...]:
        return (None if words is None else _tsvector(words),)

    def insert(self, connection: Connection, into: str, tail: str, rows: Sequence[tuple[Any, ...]]) -> None:
        # To the driver a percent sign begins a mark.
        before, after = into.replace("%", "%%"), tail.replace("%", "%%")
        for start in range(0, len(rows), PAGE):
            page = rows[start : start + PAGE]
            values = ", ".join([_marks("%s", page[0])] * len(page))
            connection.exec_driver_sql(f"{before} VALUES {values}{after}", tuple(each for row in page for each in row))


def _tsvector(words: Sequence[str]) -> str:
    """The words as PostgreSQL writes a tsvector: nothing of its own parser's is in it."""
    at: dict[str, list[str]] = {}
    for number, word in enumerate(words, 1):
        if word != GAP:
            at.setdefault(word, []).append(str(min(number, _LAST_POSITION)))
    return " ".join(f"{_lexeme(word)}:{','.join(places[:_MOST_POSITIONS])}" for word, places in at.items())


def _lexeme(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"


def _marks(mark: str, row: Sequence[Any]) -> str:
    return f"({', '.join([mark] * len(row))})"
