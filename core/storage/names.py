"""Names in SQL, whatever is in them. Used by all who write SQL of their own."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def in_text(name: str) -> str:
    """A quoted name as `sqlalchemy.text` takes it, to whom a colon may begin a parameter."""
    return name.replace(":", r"\:")
