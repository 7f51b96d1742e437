"""The actions that make postponed calls: `perform_NAME`, for each dependency that is `outside(…, after_commit=True)`.

Added by the registry; queued by `gateway.nested` with the outcome of the action that asked for the call. Such an action
does what a handler would have done itself: it calls the dependency, and the call is recorded as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from actionbus.core.declare.arg import Arg
from actionbus.core.declare.dependencies import Provider
from actionbus.core.declare.handler import ActionHandler
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits

_PREFIX: Final = "perform_"


def action_that_performs(dependency: str) -> str:
    """The name of the action that makes a dependency's postponed calls."""
    return _PREFIX + dependency


class PerformOutsideCall(ActionHandler):
    """Make a call that another action postponed until its commit."""

    arguments: ClassVar[Mapping[str, Arg]] = {
        "call": Arg(type=str, required=True, description="what is called, such as mailer.send"),
        "positional": Arg(type=list, default=list, description="its arguments, as recorded calls have them"),
        "named": Arg(type=dict, default=dict, description="its arguments by name"),
        "key": Arg(type=str, required=True, description="the same however often the call is made"),
    }
    _key: ClassVar[str | None] = None
    _limits: ClassVar[Limits] = Limits()

    def execute(self) -> Any:
        """Call it; what it gave, if that is JSON."""
        name, *path = self.args.call.split(".")
        called = getattr(self, name)
        for part in path:
            called = getattr(called, part)
        named = {each: tagged.decode(value) for each, value in self.args.named.items()}
        if self._key is not None:
            named[self._key] = self.args.key
        return _told(called(*map(tagged.decode, self.args.positional), **named), self._limits)


def handler_that_performs(provider: Provider, limits: Limits) -> type[ActionHandler]:
    """The handler for one dependency."""
    made: type[ActionHandler] = type(
        PerformOutsideCall.__name__,
        (PerformOutsideCall,),
        {
            "__doc__": f"Make a call of {provider.name} that another action postponed until its commit.",
            "__module__": __name__,
            "requires": (provider.name,),
            "retry": provider.after_commit.retries,
            "_performs": provider.name,
            "_key": provider.after_commit.key,
            "_limits": limits,
        },
    )
    return made


def _told(value: Any, limits: Limits) -> Any:
    """What a call gave, in its JSON form; None if it has none, or too much. It was made, so nothing may be raised."""
    try:
        shown = payload.primitive(value, limits)
        return shown if len(payload.dumps(shown)) <= min(limits.result_bytes, limits.call_bytes) else None
    except Exception:
        return None
