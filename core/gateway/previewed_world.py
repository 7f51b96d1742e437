"""The outside world in a preview: what was declared for it answers, all else is refused. Used by `gateway.preview`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from actionbus.core.declare.dependencies import Provider
from actionbus.core.errors import NotInPreview
from actionbus.core.gateway.absent import Absent
from actionbus.core.gateway.outside_calls import CallLog, RecordedDependency
from actionbus.core.gateway.world import World


class PreviewedWorld(World):
    """Makes no outside dependency but those that are declared for previews; `refused` are the calls that were tried."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def reach(self, calls: CallLog, provider: Provider, make: Callable[[], Any]) -> Any:
        """What was declared to stand in for it, or what refuses every call."""
        if provider.preview is not None:
            return RecordedDependency(calls, provider.name, provider.preview())
        return _Absent(self, provider.name)

    def refuse(self, name: str, what: str) -> NoReturn:
        """Raise NotInPreview for a call by this name."""
        self.refused.append(what)
        raise NotInPreview(
            f"the action asks the outside world ({what}), which a preview does not; to have it answered, declare "
            f"{name}: outside(…, preview=…), or give the runner overrides={{{name!r}: …}}"
        )


class _Absent(Absent):
    """Stands where an outside dependency would be."""

    __slots__ = ("_world",)
    _world: PreviewedWorld

    def __init__(self, world: PreviewedWorld, name: str) -> None:
        super().__init__(name)
        object.__setattr__(self, "_world", world)

    def __getattr__(self, attribute: str) -> _Absent:
        return _Absent(self._world, self._path(attribute))

    def _refuse(self, what: str) -> NoReturn:
        self._world.refuse(self._name.partition(".")[0], what)

    def __repr__(self) -> str:
        return f"<{self._name}, absent in a preview>"
