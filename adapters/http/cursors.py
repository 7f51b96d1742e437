"""Cursors: where a page ended, as clients hand it back. The journal's are positions; what tells a key is sealed."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final, NamedTuple

from actionbus.adapters.http.refusals import Malformed
from actionbus.core import Bus

_PLACE: Final = re.compile(r"([on])([0-9]{1,18})")
LONGEST_CURSOR: Final = 60_000
"""Characters of a sealed cursor."""
_SEAL_BYTES: Final = 16


class JournalPlace(NamedTuple):
    """A place in the journal, and in which direction it goes on from there. Whoever reads it may make one up."""

    position: int
    is_older: bool

    def text(self) -> str:
        """The cursor as clients have it: opaque text."""
        return f"{'o' if self.is_older else 'n'}{self.position}"


def place_of(text: str | None) -> JournalPlace | None:
    """What a client handed back; None for the first page. Raises Malformed."""
    if text is None:
        return None
    if not (found := _PLACE.fullmatch(text)):
        raise Malformed("cursor was not given here; take `older` or `newer` of a page", {"cursor": ["is unknown"]})
    return JournalPlace(int(found[2]), found[1] == "o")


class Seals:
    """Makes the cursors of a journal's callers; thread-safe.

    What a seal is made with is the journal's identity, which no caller is ever told.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._key: bytes | None = None

    def of(self, actor: str | None, what: str) -> Cursors:
        """The cursors of one caller in one thing that is read."""
        if self._key is None:
            self._key = hashlib.blake2b(f"cursors of {self._bus.journal.identity()}".encode()).digest()
        return Cursors(self._key, actor, what)


class Cursors:
    """The cursors of one caller in one thing that is read: sealed, so that he can use no other's and make up none."""

    def __init__(self, key: bytes, actor: str | None, what: str) -> None:
        self._key = key
        self._whose = repr((actor, what)).encode()

    def sealed(self, cursor: str) -> str:
        """What pages go on by, in characters that an address may have, as the caller gets it."""
        return f"{self._seal(cursor)}.{cursor}"

    def opened(self, sealed: str) -> str:
        """What `sealed` was given, and nothing else. Raises Malformed."""
        seal, _, cursor = sealed.partition(".")
        plain = sealed.isascii() and len(sealed) <= LONGEST_CURSOR
        if not plain or not hmac.compare_digest(seal, self._seal(cursor)):
            raise Malformed(
                "cursor was not given to this caller; begin with the first page",
                {"cursor": ["was not given to this caller"]},
            )
        return cursor

    def _seal(self, cursor: str) -> str:
        made = hmac.digest(self._key, self._whose + b"\0" + cursor.encode(), "sha256")[:_SEAL_BYTES]
        return urlsafe_b64encode(made).decode().rstrip("=")
