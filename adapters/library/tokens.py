"""API tokens of the reference application: who sends a request is who holds a token. Hashed at rest.

A token is 256 random bits, so its SHA-256 alone is kept: a thief of the database has nothing to send, and no guess
comes near. `python -m adapters.library.tokens ana` makes one for the actor `ana` and shows it once.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from sqlalchemy import select

from adapters.library.models import TokenRow
from core import Bus

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "abt_"
"""So that scanners for leaked secrets can know one."""
_LONGEST = 200


def digest_of(token: str) -> str:
    """What is kept of a token: its SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(bus: Bus, actor: str, *, days: float = 90.0, label: str = "") -> str:
    """Make a token for `actor`; it is not kept anywhere. What it may do is what the actor may."""
    token = PREFIX + secrets.token_urlsafe(32)
    expires = datetime.now(UTC) + timedelta(days=days)
    arguments = {"digest": digest_of(token), "expires_at": expires, "label": label}
    bus.execute("add_token", arguments, actor=actor)
    return token


def authenticator(bus: Bus) -> Callable[[Any], str | None]:
    """For `ActionBus(authenticate=…)`: the actor of `Authorization: Bearer TOKEN`, or None."""

    def authenticate(request: Any) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= _LONGEST:
            return None
        wanted = select(TokenRow.actor).where(
            TokenRow.digest == digest_of(token.strip()), TokenRow.expires_at > datetime.now(UTC)
        )
        with bus.engine.connect() as connection:
            found: str | None = connection.execute(wanted).scalar()
        return found

    return authenticate


@click.command()
@click.argument("actor")
@click.option("--days", type=click.FloatRange(0, 3650), default=90.0, show_default=True, help="How long it is valid.")
@click.option("--label", default="", help="What it is for.")
@click.option("--database", envvar="ACTIONBUS_DATABASE_URL", default=None, show_envvar=True, help="The database.")
def main(actor: str, days: float, label: str, database: str | None) -> None:
    """Make an API token for ACTOR and show it, this once."""
    from adapters.wiring import DEFAULT_DATABASE, library

    with Bus(library, database or DEFAULT_DATABASE) as bus:
        bus.journal.require()
        click.echo(issue(bus, actor, days=days, label=label))


if __name__ == "__main__":
    main()
