"""Records what a handler asks of `outside` dependencies, call by call; the runner writes it with the outcome.

`Recorded` stands in for the dependency and `CallLog.perform` is the one place where a call is made: a sandbox
gives another performer the same proxies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from actionbus.core.declare.asynchronous import refuse_awaitable
from actionbus.core.declare.reaching import reaching_out
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits


@dataclass(slots=True)
class Call:
    """One call: what was asked, and the live answer for a retry of the same action."""

    name: str
    asked: dict[str, Any]
    ended: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    error: BaseException | None = None

    def answer(self) -> Any:
        """Return or raise again what the call gave."""
        if self.error is not None:
            raise self.error
        return self.value.again() if isinstance(self.value, RecordedItems) else self.value

    def shown(self) -> dict[str, Any]:
        """The call as the journal keeps it."""
        return {"call": self.name, **self.asked, **self.ended}


def asked_of(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The question of a call as the journal keeps it, without its answer."""
    return {name: shown[name] for name in ("call", "args", "kwargs", "read") if name in shown}


class CallLog:
    """The calls of one action, in order.

    `earlier` are those of the attempt before, which answer first; `tape` takes all calls of this attempt. Both are
    shared with the nested actions of the same attempt.
    """

    def __init__(self, limits: Limits, earlier: deque[Call] | None = None, tape: list[Call] | None = None) -> None:
        self._limits = limits
        self._answers = deque() if earlier is None else earlier
        self._tape = [] if tape is None else tape
        self.calls: list[Call] = []
        self.dropped = 0

    def perform(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], do: Callable[[], Any]) -> Any:
        """Make the call, or answer it from the attempt before while names and arguments match."""
        return self._perform(name, self._asked(args, kwargs), do)

    def read(self, name: str, do: Callable[[], Any]) -> Any:
        """Read a plain attribute, as `perform` makes a call."""
        return self._perform(name, {"read": True}, do)

    def _perform(self, name: str, asked: dict[str, Any], do: Callable[[], Any]) -> Any:
        if self._answers:
            earlier = self._answers.popleft()
            if earlier.name == name and earlier.asked == asked:
                self._note(earlier)
                return earlier.answer()
            self._answers.clear()
        call = Call(name, asked)
        self._note(call)
        try:
            with reaching_out():
                value = refuse_awaitable(do(), name)
        except BaseException as error:
            call.error = error
            call.ended = {"raised": describe_exception(error)}
            raise
        call.value = self._returned(call, value)
        return call.value

    def shown(self) -> list[dict[str, Any]] | None:
        """All calls as the journal keeps them; None when there were none."""
        told = [call.shown() for call in self.calls]
        if self.dropped:
            told.append({"call": "…", "opaque": f"{self.dropped} further calls were not kept"})
        return told or None

    def _note(self, call: Call) -> None:
        self._tape.append(call)
        if len(self.calls) < self._limits.calls:
            self.calls.append(call)
        else:
            self.dropped += 1

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        told = {"args": [self._tag(each) for each in args]}
        return told | {"kwargs": {key: self._tag(each) for key, each in kwargs.items()}} if kwargs else told

    def _tag(self, value: Any) -> Any:
        shown, why = self._encoded(value)
        return shown if why is None else {"$": "opaque", "value": why}

    def _encoded(self, value: Any) -> tuple[Any, str | None]:
        try:
            shown = tagged.encode(value)
            size = len(payload.dumps(shown))
        except tagged.Opaque as error:
            return None, str(error)
        except (ValueError, RecursionError):
            return None, f"a {type(value).__name__} that JSON cannot hold"
        return (shown, None) if size <= self._limits.call_bytes else (None, f"{size} bytes, above the limit")

    def _returned(self, call: Call, value: Any) -> Any:
        if isinstance(value, Iterator):
            return RecordedItems(self, call, value)
        shown, why = self._encoded(value)
        if why is None:
            call.ended = {"returned": shown}
            return value
        if hasattr(value, "__enter__") and hasattr(value, "__exit__"):
            call.ended = {"context": True}
            return Recorded(self, f"{call.name}()", value)
        call.ended = {"opaque": why}
        return value


class Recorded:
    """A dependency, or a part of it reached by attribute, whose calls are recorded under their path."""

    __slots__ = ("_log", "_name", "_target")

    def __init__(self, log: CallLog, name: str, target: Any) -> None:
        object.__setattr__(self, "_log", log)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_target", target)

    @property  # type: ignore[misc]  # so that isinstance() sees the dependency's own class
    def __class__(self) -> type:
        return type(self._target)

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self._name}.{attribute}"
        with reaching_out():
            found = refuse_awaitable(getattr(self._target, attribute), name)
        plain = not callable(found) and self._log._encoded(found)[1] is None
        return self._log.read(name, lambda: found) if plain else Recorded(self._log, name, found)

    def __setattr__(self, attribute: str, value: Any) -> None:
        name = f"{self._name}.{attribute}="
        self._log.perform(name, (value,), {}, lambda: setattr(self._target, attribute, value))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._log.perform(self._name, args, kwargs, lambda: self._target(*args, **kwargs))

    def __getitem__(self, key: Any) -> Any:
        return self._log.perform(f"{self._name}[]", (key,), {}, lambda: self._target[key])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._log.perform(f"{self._name}.__iter__", (), {}, lambda: iter(self._target)))

    def __enter__(self) -> Any:
        entered = self._log.perform(f"{self._name}.__enter__", (), {}, self._enter)
        return Recorded(self._log, self._name, self._target) if entered is None else entered

    def _enter(self) -> Any:
        entered = self._target.__enter__()
        return None if entered is self._target else entered

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool | None:
        told = (kind.__name__,) if kind else ()
        name = f"{self._name}.__exit__"
        return bool(self._log.perform(name, told, {}, lambda: self._target.__exit__(kind, error, traceback)))


class RecordedItems(Iterator[Any]):
    """An iterator that a call returned; its items are recorded as they are taken."""

    def __init__(self, log: CallLog, call: Call, items: Iterator[Any]) -> None:
        self._log, self._items = log, items
        self._taken: list[Any] = []
        self._ahead: deque[Any] = deque()
        self._shown: list[Any] = []
        self._size = 0
        call.ended = {"items": self._shown}
        self._call = call

    def __next__(self) -> Any:
        if self._ahead:
            return self._ahead.popleft()
        try:
            with reaching_out():
                item = refuse_awaitable(next(self._items), self._call.name)
        except StopIteration:
            if "items" in self._call.ended:
                self._call.ended["whole"] = True
            raise
        self._taken.append(item)
        self._keep(item)
        return item

    def again(self) -> RecordedItems:
        """The same iterator from its first item, for a retry."""
        self._ahead = deque(self._taken)
        return self

    def _keep(self, item: Any) -> None:
        shown, why = self._log._encoded(item)
        self._size += len(payload.dumps(shown)) if why is None else 0
        if why is None and self._size > self._log._limits.call_bytes:
            why = "its items are together above the limit"
        if why is not None:
            self._call.ended = {"opaque": why}
        else:
            self._shown.append(shown)


def describe_exception(error: BaseException) -> dict[str, Any]:
    """An exception by class, arguments and attributes, so far as they can be written down."""
    told: dict[str, Any] = {"class": tagged.class_name(type(error))}
    for key, value in (("args", list(error.args)), ("attributes", dict(vars(error)))):
        try:
            told[key] = tagged.encode(value)
        except tagged.Opaque as why:
            told["opaque"] = str(why)
    return told
