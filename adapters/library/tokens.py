"""API tokens of the reference application: who sends a request is who holds a token. Hashed at rest.

A token is 256 random bits, so its SHA-256 alone is kept: a thief of the database has nothing to send, and no guess
comes near. `actionbus token` makes, lists and revokes them.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from actionbus import Bus
from actionbus.adapters.library.models import TokenRow
from actionbus.core.actions import OPERATOR

PREFIX: Final = "abt_"
"""So that scanners for leaked secrets can know one."""
_TOKEN: Final = re.compile(PREFIX + "[A-Za-z0-9_-]{43}")
"""What `issue` makes. Of a token that somebody thought up, a digest may be kept, but it is not accepted."""


def digest_of(token: str) -> str:
    """What is kept of a token: its SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(bus: Bus, actor: str, *, days: float = 90.0, label: str = "") -> str:
    """Make a token for `actor`; it is not kept anywhere. What it may do is what the actor may."""
    token = PREFIX + secrets.token_urlsafe(32)
    expires = datetime.now(UTC) + timedelta(days=days)
    arguments = {"holder": actor, "digest": digest_of(token), "expires_at": expires, "label": label}
    bus.execute("add_token", arguments, actor=operator())
    return token


def revoke(bus: Bus, token_id: UUID) -> None:
    """Let a token be accepted no more. Raises InvalidArguments if there is none."""
    bus.execute("revoke_token", {"token_id": token_id}, actor=operator())


def listed(bus: Bus, actor: str | None = None) -> list[dict[str, Any]]:
    """All tokens, or an actor's, the newest last; never what would let somebody in."""
    c = TokenRow.__table__.c
    wanted = select(c.id, c.actor, c.label, c.created_at, c.expires_at).order_by(c.created_at, c.id)
    if actor is not None:
        wanted = wanted.where(c.actor == actor)
    with bus.engine.connect() as connection:
        rows = connection.execute(wanted).all()
    now = datetime.now(UTC)
    return [
        {
            "token_id": row.id,
            "actor": row.actor,
            "label": row.label,
            "created_at": _aware(row.created_at),
            "expires_at": _aware(row.expires_at),
            "valid": _aware(row.expires_at) > now,
        }
        for row in rows
    ]


def id_of(bus: Bus, token: str) -> UUID:
    """By what it is listed and revoked."""
    with bus.engine.connect() as connection:
        found: UUID = connection.execute(select(TokenRow.id).filter_by(digest=digest_of(token))).scalar_one()
    return found


def operator() -> str:
    """Who issues tokens: whoever has the database's address and runs commands on it. Nobody is so called over HTTP."""
    try:
        return OPERATOR + getpass.getuser()[:100]
    except (KeyError, OSError, ImportError):  # a user without a name, as in some containers
        return OPERATOR + "unknown"


def authenticator(bus: Bus) -> Callable[[Any], str | None]:
    """For `ActionBus(authenticate=…)`: the actor of `Authorization: Bearer TOKEN`, or None."""

    def authenticate(request: Any) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token.strip()):
            return None
        wanted = select(TokenRow.actor).where(
            TokenRow.digest == digest_of(token.strip()), TokenRow.expires_at > datetime.now(UTC)
        )
        with bus.engine.connect() as connection:
            found: str | None = connection.execute(wanted).scalar()
        return None if found is None or found.startswith(OPERATOR) else found

    return authenticate


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
