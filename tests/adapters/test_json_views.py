"""How actions look as JSON."""

from __future__ import annotations

from dataclasses import replace

from actionbus import ActionHandler
from actionbus.adapters.json_views import summary
from actionbus.core.declare.registry import Registry
from tests.shop.app import make_application


class Documented(ActionHandler):
    """Said once.

    And more.
    """

    def execute(self) -> None:
        """What it does."""


class Inherits(Documented):
    pass


class Silent(ActionHandler):
    def execute(self) -> None:
        """What it does."""


def summarised(handler: type[ActionHandler], *, whole: bool = False) -> str:
    return summary(replace(Registry(make_application()).get("call_back"), handler=handler), whole=whole)


def test_an_action_is_described_by_its_own_words_alone() -> None:
    """Or by those of a base of the application's; ours would say what a handler is."""
    assert summarised(Documented) == "Said once."
    assert summarised(Documented, whole=True) == "Said once.\n\nAnd more."
    assert summarised(Inherits) == "Said once."
    assert summarised(Silent) == ""
