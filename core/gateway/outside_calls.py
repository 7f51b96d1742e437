"""Records what a handler asks of `outside` dependencies, call by call; the runner writes it with the outcome.

`RecordedDependency` stands in for the dependency and `CallLog.perform` is the one place where a call is made: a sandbox
gives another performer the same proxies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import IOBase
from typing import Any, Final, Self

from actionbus.core.declare.asynchronous import refuse_awaitable
from actionbus.core.declare.reaching import reaching_out
from actionbus.core.gateway.specials import has, is_plain_iterator, with_specials
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits

_FOR_C: Final = (IOBase, memoryview)
"""What is handed to code that wants the very object, and not one that behaves like it."""


@dataclass(slots=True)
class OutsideCall:
    """One call: what was asked, and the live answer for a retry of the same action."""

    name: str
    asked: dict[str, Any]
    ended: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    error: BaseException | None = None

    def answer(self, log: CallLog) -> Any:
        """Return or raise again what the call gave; what is asked of it further goes to `log`."""
        if self.error is not None:
            raise self.error
        is_ours = issubclass(type(self.value), (RecordedDependency, RecordedItems))
        return self.value._again(log) if is_ours else self.value

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

    def __init__(
        self, limits: Limits, earlier: deque[OutsideCall] | None = None, tape: list[OutsideCall] | None = None
    ) -> None:
        self._limits = limits
        self._answers = deque() if earlier is None else earlier
        self._tape = [] if tape is None else tape
        self.calls: list[OutsideCall] = []
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
                return earlier.answer(self)
            self._answers.clear()
        call = OutsideCall(name, asked)
        self._note(call)
        try:
            with reaching_out():
                value = refuse_awaitable(do(), name)
        except BaseException as error:
            call.error = error
            call.ended = {"raised": self._described(error)}
            raise
        call.value = self._returned(call, value)
        return call.value

    def shown(self, *, of_nested: bool = False) -> list[dict[str, Any]] | None:
        """All calls as the journal keeps them, at wish with those of nested actions; None when there were none."""
        kept, dropped = self.calls, self.dropped
        if of_nested:
            kept = self._tape[: self._limits.calls]
            dropped = len(self._tape) - len(kept)
        told = [call.shown() for call in kept]
        if dropped:
            told.append({"call": "…", "opaque": f"{dropped} further calls were not kept"})
        return told or None

    def _note(self, call: OutsideCall) -> None:
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

    def _described(self, error: BaseException) -> dict[str, Any]:
        """An exception by class, arguments and attributes, so far as they can be written down."""
        told: dict[str, Any] = {"class": tagged.class_name(type(error))}
        try:
            parts = {"args": list(error.args), "attributes": dict(vars(error))}
        except Exception:
            return told | {"opaque": "its arguments cannot be read"}
        for key, value in parts.items():
            shown, why = self._encoded(value)
            told |= {key: shown} if why is None else {"opaque": why}
        return told

    def _returned(self, call: OutsideCall, value: Any) -> Any:
        kind = type(value)
        shown, why = self._encoded(value)
        if why is None:
            call.ended = {"returned": shown}
            return value
        if isinstance(value, _FOR_C):
            call.ended = {"opaque": why}
            return value
        if has(kind, "__enter__") and has(kind, "__exit__"):
            call.ended = {"context": tagged.class_name(kind)}
            return RecordedDependency(self, f"{call.name}()", value)
        if is_plain_iterator(kind):
            return RecordedItems(self, call, value)
        call.ended = {"opaque": why}
        return value


class RecordedDependency:
    """A dependency, or a part of it reached by attribute, whose calls are recorded under their path.

    It has the special methods that the class of its target has: see `gateway.specials`.
    """

    __slots__ = ("__weakref__", "_log", "_name", "_target")

    def __new__(cls, log: CallLog, name: str, target: Any) -> Self:
        made: Self = object.__new__(with_specials(cls, cls._kind(target), _RECORDED))
        return made

    def __init__(self, log: CallLog, name: str, target: Any) -> None:
        object.__setattr__(self, "_log", log)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_target", target)

    @staticmethod
    def _kind(target: Any) -> type:
        return type(target)

    @property  # type: ignore[misc]  # so that isinstance() sees the dependency's own class
    def __class__(self) -> type:
        return type(self._target)

    def _again(self, log: CallLog) -> RecordedDependency:
        return RecordedDependency(log, self._name, self._target)

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self._name}.{attribute}"
        with reaching_out():
            found = refuse_awaitable(getattr(self._target, attribute), name)
        itself = isinstance(found, _FOR_C) or tagged.is_exception_class(found)
        plain = itself or (not callable(found) and self._log._encoded(found)[1] is None)
        return self._log.read(name, lambda: found) if plain else RecordedDependency(self._log, name, found)

    def __setattr__(self, attribute: str, value: Any) -> None:
        name = f"{self._name}.{attribute}="
        self._log.perform(name, (value,), {}, lambda: setattr(self._target, attribute, value))

    def __delattr__(self, attribute: str) -> None:
        self._log.perform(f"{self._name}.{attribute}=", (), {}, lambda: delattr(self._target, attribute))

    def __repr__(self) -> str:
        return repr(self._target)

    def __dir__(self) -> list[str]:
        return dir(self._target)


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self._log.perform(self._name, args, kwargs, lambda: self._target(*args, **kwargs))


def _iter(self: Any) -> Iterator[Any]:
    # A generator, whatever iterator the target has: its items are recorded one by one.
    return iter(self._log.perform(f"{self._name}.__iter__", (), {}, lambda: (each for each in self._target)))


def _enter(self: Any) -> Any:
    def enter() -> Any:
        entered = self._target.__enter__()
        return None if entered is self._target else entered

    entered = self._log.perform(f"{self._name}.__enter__", (), {}, enter)
    return RecordedDependency(self._log, self._name, self._target) if entered is None else entered


def _exit(self: Any, kind: Any, error: Any, traceback: Any) -> bool | None:
    told = (kind.__name__,) if kind else ()
    name = f"{self._name}.__exit__"
    return bool(self._log.perform(name, told, {}, lambda: self._target.__exit__(kind, error, traceback)))


_RECORDED: Final = {"__call__": _call, "__iter__": _iter, "__enter__": _enter, "__exit__": _exit}


class RecordedItems(Iterator[Any]):
    """An iterator that a call returned; its items are recorded as they are taken."""

    def __init__(self, log: CallLog, call: OutsideCall, items: Iterator[Any]) -> None:
        self._log, self._items = log, items
        self._taken: list[Any] = []
        self._ahead: deque[Any] = deque()
        self._shown: list[Any] = []
        self._size = 0
        call.ended = {"items": self._shown}
        self._call = call

    @property  # type: ignore[misc]  # as of Recorded
    def __class__(self) -> type:
        return type(self._items)

    def __getattr__(self, attribute: str) -> Any:
        # Such as a generator's `close` and `send`: it works, and nobody can tell what it did.
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        self._call.ended = {"opaque": f"its {attribute} was used"}
        return getattr(self._items, attribute)

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

    def _again(self, log: CallLog) -> RecordedItems:
        """The same iterator from its first item, for a retry."""
        self._log = log
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
