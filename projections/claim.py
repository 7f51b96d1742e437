"""Claim: at most one projector feeds a slice of an index. Used by the feeder.

PostgreSQL: a session advisory lock, which ends with its connection, so a standby takes over as soon as a projector is
dead. SQLite: a lease in the checkpoint row, renewed with every sign of life. Either may be lost unnoticed for a moment;
what keeps two projectors from harm is the condition on the holder in `Ledger.intend`, and the versions of documents.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection, Engine, text

from actionbus.projections.leases import LEASE_S
from actionbus.projections.ledger import Checkpoint, Ledger
from actionbus.projections.waking import GLANCE_S, discard, listen, sleep

log = logging.getLogger("actionbus")

_GRACE_S = 2.0
"""Seconds beyond a lease's end: what clocks and machines may be late by."""
_SIGN_S = 2.0
"""Seconds between signs of life while something takes its time."""


class SignsOfLife:
    """Given once in a while by a holder that is at work; `sign` gives one."""

    def __init__(self, sign: Callable[[], None]) -> None:
        self._sign, self._last = sign, time.monotonic()

    def give(self) -> None:
        """One, if the last was some time ago."""
        if time.monotonic() - self._last > _SIGN_S:
            self._sign()
            self._last = time.monotonic()


class Claim:
    """The right to feed one slice of one index; also what its holder sleeps with between batches."""

    def __init__(self, engine: Engine, ledger: Ledger, row: Checkpoint, schema: str | None) -> None:
        self.holder = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._engine, self._ledger, self._row = engine, ledger, row
        name = f"actionbus projector {schema or ''} {row.index_name} {row.slice}"
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._connection: Connection | None = None
        self._postgresql = engine.dialect.name == "postgresql"

    def acquire(self) -> bool:
        """Try to become the holder."""
        if not self._postgresql:
            return self._ledger.take(self._row, self.holder, steal=False)
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            locked = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}).scalar()
            if locked and self._ledger.take(self._row, self.holder, steal=True):
                listen(connection)
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                discard(connection)
        return False

    def acquire_from_the_dead(self) -> bool:
        """Become the holder, if need be once the lease of one that was killed runs out; False if a living one has it.

        Whoever lives shows it within a lease's time.
        """
        if self.acquire():
            return True
        before = self._ledger.checkpoint(self._row.index_name, self._row.slice)
        give_up = time.monotonic() + LEASE_S + _GRACE_S
        log.warning("%s: waits up to %.0f s to see whether who feeds it lives", self._row.index_name, LEASE_S)
        while time.monotonic() < give_up:
            time.sleep(GLANCE_S)
            if self.acquire():
                return True
            now = self._ledger.checkpoint(self._row.index_name, self._row.slice)
            if before and now and now.alive and now.alive_until != before.alive_until:
                return False
        return False

    def release(self) -> None:
        """Let somebody else have it; never raises."""
        with suppress(Exception):
            self._ledger.give_back(self._row.index_name, self._row.slice, self.holder)
        if self._connection is not None:
            discard(self._connection)
            self._connection = None

    def sleep(self, stop: threading.Event) -> None:
        """Until there may be something new: a notification, or the time to poll."""
        sleep(self._connection, stop)
