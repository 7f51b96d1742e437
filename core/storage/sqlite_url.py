"""What a SQLite URL names: a file, or a database in memory. Used wherever that matters before there is a connection."""

from __future__ import annotations

from urllib.parse import unquote

from sqlalchemy.engine import URL
from sqlalchemy.util import asbool


def is_uri(url: URL) -> bool:
    """Whether SQLite reads the name as a URI, as in `sqlite:///file:/path/x.db?uri=true`."""
    return bool(asbool(url.query.get("uri", False)))


def file_of(url: URL) -> str | None:
    """The path of the file; None for what is in memory, or gone with its connection."""
    name = url.database
    if not name or name == ":memory:":
        return None
    if not is_uri(url) or not name.startswith("file:"):
        return name
    if url.query.get("mode") == "memory" or url.query.get("vfs") == "memdb":
        return None
    path = name.removeprefix("file:").partition("?")[0].partition("#")[0]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    path = unquote(path)
    return None if path in ("", ":memory:") else path


def shared_memory(url: URL) -> str | None:
    """The name of a database in memory that several connections of one process can open, or None."""
    shared = url.query.get("cache") == "shared" or url.query.get("vfs") == "memdb"
    return url.database if shared and file_of(url) is None else None
