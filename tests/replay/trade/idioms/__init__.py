"""What its actions do: one idiom of SQLAlchemy's each, as its users write them. Each returns what it has seen."""

from tests.replay.trade.idioms import changes, defaults, relations
from tests.replay.trade.idioms.kit import IDIOMS

__all__ = ["IDIOMS", "changes", "defaults", "relations"]
