"""What idioms have in common: where they are offered, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from tests.replay.trade.models import Party, Person, Tag

if TYPE_CHECKING:
    from tests.replay.trade.actions.act import Act

IDIOMS: dict[str, Callable[[Act], Any]] = {}


def idiom(function: Callable[[Act], Any]) -> Callable[[Act], Any]:
    """Offer it by its name."""
    IDIOMS[function.__name__] = function
    return function


def upsert(h: Act, table: Any) -> Any:
    """An INSERT that knows of conflicts."""
    is_postgresql = h.session.get_bind().dialect.name == "postgresql"
    return (postgresql if is_postgresql else sqlite).insert(table)


def tag(h: Act, word: str) -> Tag:
    """That of the word, made where there is none."""
    return h.session.scalar(select(Tag).where(Tag.word == word)) or Tag(word)


def party(h: Act) -> Party:
    """One of those that there are."""
    count = h.session.scalar(select(func.count()).select_from(Party)) or 0
    found = h.session.scalars(select(Party).order_by(Party.id).offset(h.args.n % max(count, 1)).limit(1)).first()
    if found is None:
        found = Person(name=h.args.word, born=1900)
        h.session.add(found)
        h.session.flush()
    return found
