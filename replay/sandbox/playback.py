"""The outside world as the journal has it: calls are answered from their records, never made. Used by the sandbox."""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints
from uuid import UUID

from actionbus.core.declare.dependencies import Provider
from actionbus.core.declare.handler import ActionHandler
from actionbus.core.gateway.outside_calls import CallLog, OutsideCall, RecordedDependency, asked_of
from actionbus.core.gateway.world import World
from actionbus.core.secrecy.scrubbing import Scrubber
from actionbus.core.values import payload, tagged
from actionbus.core.values.details import RecordedCall
from actionbus.core.values.determinism import Secrets
from actionbus.core.values.limits import Limits
from actionbus.replay.errors import CannotPlayBack, NotRecorded

if TYPE_CHECKING:
    from actionbus.replay.past.history import Entry

Run = Callable[[ActionHandler], Any]


class PlayedWorld(World):
    """Answers the calls of one action and those nested in it.

    `unplayable` collects why the re-run cannot be compared: answers that the journal does not hold. `stood_in` tells
    whether a secret had to be replaced; `salt` makes other replacements.
    """

    def __init__(self, entry: Entry, salt: int = 0, run: Run | None = None) -> None:
        self._pools = {each.action_id: list(each.outcome.calls or ()) for each in entry.all()}
        self._chance = random.Random(f"{entry.submitted.seed} {salt}")
        self._run = run
        self.unplayable: list[str] = []
        self.stood_in = False
        self.redacted = False
        """Whether an argument had to be replaced, whose value may decide how the action ends."""

    def calls(
        self, action_id: UUID, limits: Limits, scrubber: Scrubber, earlier: deque[OutsideCall], tape: list[OutsideCall]
    ) -> CallLog:
        """A log whose calls are answered from the journal."""
        return PlayedCalls(self, action_id, limits, scrubber, tape)

    def reach(self, calls: CallLog, provider: Provider, make: Callable[[], Any]) -> Any:
        """A stand-in: the dependency itself is not even made."""
        return PlayedDependency(calls, provider.name, _class_of(provider))

    def replaced(self, calls: CallLog, provider: Provider, given: Any) -> Any:
        """A fake, whose calls are made."""
        assert isinstance(calls, PlayedCalls)
        calls.live.add(provider.name)
        return RecordedDependency(calls, provider.name, given)

    def secrets(self, remember: Callable[[object], None]) -> Secrets:
        """Stand-ins for what was never recorded."""
        return StandIns(self, remember)

    def run(self, handler: ActionHandler) -> Any:
        """Call the handler, or let a debugger do so: of the outermost action, which comes first."""
        run, self._run = self._run, None
        return handler.execute() if run is None else run(handler)

    def draw(self, count: int) -> bytes:
        """Bytes in place of a secret."""
        self.stood_in = True
        return self._chance.randbytes(count)

    def take(self, action_id: UUID, name: str, asked: dict[str, Any]) -> RecordedCall | None:
        """The recorded call, which is then used up: the action's own next one that matches, else any nested one's."""
        own, question = self._pools.get(action_id, []), {"call": name, **asked}
        for pool in (own, *(pool for pool in self._pools.values() if pool is not own)):
            for number, recorded in enumerate(pool):
                if asked_of(recorded) == question:
                    return pool.pop(number)
        return None

    def has_read(self, action_id: UUID, name: str) -> bool:
        """Whether a plain attribute of that name was read."""
        return any("read" in call and call["call"] == name for call in self._pools.get(action_id, ()))

    def was_truncated(self) -> bool:
        """Whether calls beyond the limit are only counted."""
        return any(call.get("call") == "…" for pool in self._pools.values() for call in pool)


def _class_of(provider: Provider) -> type:
    """What a provider gives, so that isinstance() works on the stand-in too."""
    if isinstance(provider.factory, type):
        return provider.factory
    try:
        told = get_type_hints(provider.factory).get("return")
    except Exception:
        return object
    return told if isinstance(told, type) else object


class PlayedCalls(CallLog):
    """Answers calls from the journal, and notes them as the gateway would."""

    def __init__(
        self, world: PlayedWorld, action_id: UUID, limits: Limits, scrubber: Scrubber, tape: list[OutsideCall]
    ) -> None:
        super().__init__(limits, tape=tape)
        self._world = world
        self._scrubber = scrubber
        self._action_id = action_id
        self.live: set[str] = set()
        """Dependencies that were replaced by fakes."""

    def _perform(self, name: str, asked: dict[str, Any], do: Callable[[], Any]) -> Any:
        if self.live and re.split(r"[.\[(]", name, maxsplit=1)[0] in self.live:
            return super()._perform(name, asked, do)
        told = self._scrubber.json(asked)
        recorded = self._world.take(self._action_id, name, told)
        call = OutsideCall(name, asked)
        self._note(call)
        if recorded is None:
            raise self._missing(call, told)
        call.ended = {key: value for key, value in recorded.items() if key not in asked_of(recorded)}
        return self._answer(call)

    def _missing(self, call: OutsideCall, told: dict[str, Any]) -> Exception:
        shown = payload.dumps(told.get("args", []))[:200]
        call.ended = {"raised": {"class": tagged.class_name(NotRecorded)}}
        if self._world.was_truncated():
            self._world.unplayable.append(f"{call.name}{shown}: the journal keeps only a part of the calls")
        return NotRecorded(
            f"the journal has no call {call.name} with the arguments {shown}, and a sandbox makes none; to try it, "
            "give a fake: --with NAME=module:attribute"
        )

    def _answer(self, call: OutsideCall) -> Any:
        ended = call.ended
        try:
            if "raised" in ended:
                raise _exception(ended["raised"])
            if "returned" in ended:
                return tagged.decode(ended["returned"])
            if "items" in ended:
                return PlayedItems(call, [tagged.decode(each) for each in ended["items"]], bool(ended.get("whole")))
        except tagged.Opaque as why:
            raise self._cannot(call, str(why)) from None
        if "context" in ended:
            return PlayedDependency(self, f"{call.name}()", _loaded(ended["context"]))
        raise self._cannot(call, str(ended.get("opaque", "its end was not recorded")))

    def _cannot(self, call: OutsideCall, why: str) -> CannotPlayBack:
        self._world.unplayable.append(f"{call.name}: {why}")
        return CannotPlayBack(f"{call.name} cannot be played back: {why}")


class PlayedDependency(RecordedDependency):
    """Stands in for a dependency that is not there."""

    __slots__ = ()

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        name = f"{self._name}.{attribute}"
        log: PlayedCalls = self._log
        if log._world.has_read(log._action_id, name):
            return log.read(name, lambda: None)
        return PlayedDependency(log, name, object)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        found: type = self._target
        return PlayedDependency if found is object else found

    @staticmethod
    def _kind(target: Any) -> type:
        found: type = target
        return found

    def __repr__(self) -> str:
        return f"<{self._name}, played back>"

    def __dir__(self) -> list[str]:
        return dir(self._target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._log.perform(self._name, args, kwargs, lambda: None)

    def __getitem__(self, key: Any) -> Any:
        return self._log.perform(f"{self._name}[]", (key,), {}, lambda: None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._log.perform(f"{self._name}.__iter__", (), {}, lambda: None))

    def __enter__(self) -> Any:
        entered = self._log.perform(f"{self._name}.__enter__", (), {}, lambda: None)
        return PlayedDependency(self._log, self._name, self._target) if entered is None else entered

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool | None:
        told = (kind.__name__,) if kind else ()
        return bool(self._log.perform(f"{self._name}.__exit__", told, {}, lambda: None))


class PlayedItems(Iterator[Any]):
    """An iterator's recorded items; noted again as they are taken."""

    def __init__(self, call: OutsideCall, items: Sequence[Any], whole: bool) -> None:
        self._call, self._whole = call, whole
        self._shown = call.ended["items"]
        self._items = items
        self._taken = 0
        call.ended = {"items": []}

    def __next__(self) -> Any:
        if self._taken < len(self._items):
            self._call.ended["items"].append(self._shown[self._taken])
            self._taken += 1
            return self._items[self._taken - 1]
        if self._whole:
            self._call.ended["whole"] = True
            raise StopIteration
        raise NotRecorded(f"the journal has only the {self._taken} items of {self._call.name} that were taken")


class StandIns(Secrets):
    """Random values in the place of secrets, which were never recorded."""

    def __init__(self, world: PlayedWorld, remember: Callable[[object], None]) -> None:
        super().__init__(remember)
        self._world = world

    def token_bytes(self, length: int = 32) -> bytes:
        """Bytes that were never secret."""
        return self._kept(self._world.draw(length))

    def token_hex(self, length: int = 32) -> str:
        """Hexadecimal digits that were never secret."""
        return self._kept(self._world.draw(length).hex())

    def token_urlsafe(self, length: int = 32) -> str:
        """URL-safe text that was never secret, as long as the real one."""
        return self._kept(self._world.draw(length).hex()[: (length * 4 + 2) // 3])

    def choice(self, options: Sequence[Any]) -> Any:
        """One of `options`."""
        return options[int.from_bytes(self._world.draw(8), "big") % len(options)]

    def randbelow(self, limit: int) -> int:
        """A whole number from 0 up to `limit`, exclusive."""
        return self._kept(int.from_bytes(self._world.draw(16), "big") % limit)


def _loaded(name: Any) -> type:
    """The class of that name; nothing more than an object where it is not loaded, or older records do not tell it."""
    try:
        return tagged.find_class(name)
    except (tagged.Opaque, AttributeError):
        return object


def _exception(told: dict[str, Any]) -> BaseException:
    """The exception that a call raised. Raises tagged.Opaque if it cannot be made again."""
    if "opaque" in told:
        raise tagged.Opaque(told["opaque"])
    kind = tagged.find_class(told["class"])
    if not issubclass(kind, BaseException):
        raise tagged.Opaque(f"{told['class']} is no exception")
    args = tagged.decode(told.get("args", []))
    error = kind.__new__(kind, *args)
    error.args = tuple(args)
    vars(error).update(tagged.decode(told.get("attributes", {})))
    return error
