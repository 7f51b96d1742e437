"""Time, ids and chance as handlers get them: derived from what the journal keeps, so that a replay repeats them."""

from __future__ import annotations

import hashlib
import os
import secrets as _secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from random import Random
from typing import TypeVar
from uuid import UUID

from actionbus.core.values.public import public

T = TypeVar("T")
_SEED_BYTES = 16


def new_seed() -> str:
    """128 random bits as 32 hexadecimal digits."""
    return os.urandom(_SEED_BYTES).hex()


def new_action_id() -> UUID:
    """A UUID version 7 (RFC 9562, 5.7): ordered by time, so that the journal's index grows at its end."""
    return _uuid7(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))


def chunk_ids() -> Iterator[UUID]:
    """Ids for the actions of one chunk, in order, at most 4,096: as `new_action_id`, but they share their random half.

    So one lock is the lock of them all, see `lock_key`.
    """
    millis, random = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(8), "big")
    return (_uuid7(millis, number << 64 | random) for number in range(0x1000))


def nested_identity(seed: str, number: int) -> tuple[UUID, str]:
    """Action id and seed of the number-th nested action, both derived from the outermost one's seed.

    BLAKE2b is one-way, so an id tells nothing of the seed.
    """
    digest = hashlib.blake2b(f"nested {number}".encode(), key=bytes.fromhex(seed), digest_size=32).digest()
    return UUID(bytes=digest[:16], version=4), digest[16:].hex()


def lock_key(action_id: UUID) -> int:
    """The signed 64-bit number under which a running action is locked: the random half of its id."""
    number = action_id.int & 0xFFFFFFFFFFFFFFFF
    return number - (number >> 63 << 64)


@public
class Clock:
    """One instant per action: when its execution began."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant

    def now(self) -> datetime:
        """That instant, aware, in UTC."""
        return self._instant

    def today(self) -> date:
        """The date of its one instant, in UTC."""
        return self._instant.date()


@public
class Ids:
    """Identifiers drawn from the action's seed, in the order they are asked for."""

    def __init__(self, seed: str, instant: datetime) -> None:
        self._key = bytes.fromhex(seed)
        self._millis = int(instant.timestamp() * 1000)
        self._drawn = 0

    def uuid(self) -> UUID:
        """A UUID version 7 whose random bits come from the seed (BLAKE2b in counter mode)."""
        return _uuid7(self._millis, int.from_bytes(self._bytes(10), "big"))

    def hex(self, length: int = 32) -> str:
        """`length` hexadecimal digits, at most 128."""
        return self._bytes((length + 1) // 2).hex()[:length]

    def _bytes(self, count: int) -> bytes:
        self._drawn += 1
        return hashlib.blake2b(b"id %d" % self._drawn, key=self._key, digest_size=count).digest()


def seeded_random(seed: str) -> Random:
    """A Mersenne Twister of the action's own."""
    return Random(int(seed, 16))


@public
class Secrets:
    """Unpredictable values, like the stdlib's `secrets`; what it hands out is scrubbed from the journal."""

    def __init__(self, remember: Callable[[object], None]) -> None:
        self._remember = remember

    def token_bytes(self, length: int = 32) -> bytes:
        """`length` random bytes."""
        return self._kept(_secrets.token_bytes(length))

    def token_hex(self, length: int = 32) -> str:
        """`length` random bytes in hexadecimal."""
        return self._kept(_secrets.token_hex(length))

    def token_urlsafe(self, length: int = 32) -> str:
        """`length` random bytes in URL-safe Base64."""
        return self._kept(_secrets.token_urlsafe(length))

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`; not scrubbed, since an option is no secret in itself."""
        return _secrets.choice(options)

    def randbelow(self, limit: int) -> int:
        """A whole number from 0 up to `limit`, exclusive."""
        return self._kept(_secrets.randbelow(limit))

    def _kept(self, value: T) -> T:
        self._remember(value)
        return value


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def _uuid7(millis: int, random: int) -> UUID:
    number = (millis & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (random >> 64 & 0xFFF) << 64
    return UUID(int=number | 0b10 << 62 | random & 0x3FFFFFFFFFFFFFFF)
