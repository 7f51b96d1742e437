"""What is declared of queued actions: `Retry` and `Unique` on a handler, `Queue` in an application's settings.

Read by the registry, which refuses what cannot be meant, and by `core.queueing`, which does what they say.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from actionbus.core.values.backoff import LONGEST_PAUSE_S, scattered_doubling
from actionbus.core.values.determinism import now
from actionbus.core.values.public import public

DEFAULT_QUEUE: Final = "actions"
"""The queue of actions whose handler names none."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}", re.ASCII)
QUEUE_NAME: Final = "a name of up to 100 letters, digits, dots, dashes and underscores, the first a letter"
_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_RATE: Final = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)", re.ASCII)
_PERIOD: Final = re.compile(r"([1-9]\d{0,8}) (second|minute|hour|day|week)s?", re.ASCII)
Backoff = float | Sequence[float] | Callable[[int], float]
HIGHEST_PRIORITY: Final = 1000
LONGEST_S: Final = 1_000_000_000
"""The longest pause, and the longest timeout, in seconds: 31 years, which timers and databases can still count."""


@public
@dataclass(frozen=True, slots=True)
class Retry:
    """Begin a queued action again that raised one of `on`, at most `attempts` times in all, the first included.

    `backoff` says how many seconds later: a number is the first pause, doubled with every further one up to an hour,
    at random between half of that and all of it; a list has the pauses one by one, of which the last goes on; or it is
    a function of the number of attempts made.
    """

    on: Sequence[type[Exception]] = ()
    attempts: int = 3
    backoff: Backoff = 1.0

    @property
    def kinds(self) -> tuple[type[Exception], ...]:
        """What is in `on`, of which there may be one alone."""
        on: Any = self.on
        return tuple(on) if isinstance(on, (tuple, list)) else (on,)

    def pause(self, attempts: int) -> float:
        """Seconds to wait when so many attempts were made.

        Raises what a function raises that is asked for it, and ValueError if that gives no number of seconds.
        """
        if callable(self.backoff):
            wanted = self.backoff(attempts)
            if not _are_seconds(wanted):
                raise ValueError(f"it gave {wanted!r}")
            return float(wanted)
        if isinstance(self.backoff, (int, float)):
            return scattered_doubling(attempts, self.backoff, max(self.backoff, LONGEST_PAUSE_S))
        return self.backoff[min(attempts, len(self.backoff)) - 1]

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        if not self.kinds or not all(isinstance(each, type) and issubclass(each, Exception) for each in self.kinds):
            yield f"retry: `on` must be a tuple of exceptions, such as on=(TimeoutError,), not {self.on!r}"
        if type(self.attempts) is not int or not 2 <= self.attempts <= 1000:
            yield f"retry: `attempts` must be 2 to 1000, the first included, not {self.attempts!r}"
        pauses = [self.backoff] if isinstance(self.backoff, (int, float)) else self.backoff
        if not callable(pauses) and (
            not isinstance(pauses, (tuple, list)) or not pauses or not all(map(_are_seconds, pauses))
        ):
            yield (
                f"retry: `backoff` must be seconds, up to {LONGEST_S}, a list of seconds, or a function, "
                f"not {self.backoff!r}"
            )


@public
@dataclass(frozen=True, slots=True)
class Unique:
    """Queue an action once: as long as another of its name with equal `by` is on its way, or was queued in `for_`.

    `by` are names of arguments, all of them if there are none; `for_` is a time such as "1 hour", counted from when the
    first was queued, whatever came of it. Without `for_` it counts until the first has its outcome.
    """

    by: Sequence[str] = ()
    for_: str | timedelta | None = None

    @property
    def seconds(self) -> float | None:
        """`for_` in seconds. Raises ValueError for what is no time."""
        if self.for_ is None:
            return None
        if isinstance(self.for_, timedelta):
            return self.for_.total_seconds()
        found = _PERIOD.fullmatch(self.for_) if isinstance(self.for_, str) else None
        if found is None:
            raise ValueError(f"unique: `for_` must be a time such as '1 hour' or '30 minutes', not {self.for_!r}")
        return float(int(found[1]) * _UNITS[found[2]])

    def names(self, arguments: Mapping[str, Any]) -> Sequence[str]:
        """Of an action's `Arg`s by name, those whose values tell one run from another: `by`, or all but secrets."""
        return self.by or sorted(name for name, arg in arguments.items() if not arg.sensitive)

    def problems(self) -> Iterator[str]:
        """What is wrong with it, but for the names in `by`."""
        if not isinstance(self.by, (tuple, list)) or not all(isinstance(each, str) for each in self.by):
            yield f"unique: `by` must be a tuple of names of arguments, not {self.by!r}"
        try:
            if (seconds := self.seconds) is not None and seconds <= 0:
                yield "unique: `for_` must be more than nothing"
        except ValueError as error:
            yield str(error)


@public
@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's limits, for all its workers together: `Application(queues=[Queue("media", concurrency=2)])`.

    At most `concurrency` of its actions run at a time, and at most `rate`, such as "100/minute", are begun, evenly.
    """

    name: str
    concurrency: int | None = None
    rate: str | None = None

    @property
    def interval(self) -> float:
        """Seconds between two beginnings, 0 without a rate. Raises ValueError for what is no rate."""
        if self.rate is None:
            return 0.0
        found = _RATE.fullmatch(self.rate) if isinstance(self.rate, str) else None
        if found is None:
            raise ValueError(f"`rate` must be such as '10/second' or '100/minute', not {self.rate!r}")
        return _UNITS[found[2]] / int(found[1])

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        where = f"Queue({self.name!r})"
        if not is_queue_name(self.name):
            yield f"{where}: a queue is called by {QUEUE_NAME}"
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            yield f"{where}: `concurrency` must be a whole number from 1 up, not {self.concurrency!r}"
        if self.concurrency is None and self.rate is None:
            yield f"{where}: it limits nothing; give `concurrency` or `rate`"
        try:
            assert self.interval >= 0
        except ValueError as error:
            yield f"{where}: {error}"


class Schedule:
    """When an action is due again and again: five fields of cron and, at wish, a time zone: "0 9 * * 1 Europe/Berlin".

    Without a zone it is UTC. Raises ValueError for anything else. Daylight saving time is cronsim's affair, which
    does as Debian's cron: a job at a fixed hour runs once on every day, though the hour is missing or comes twice.
    """

    def __init__(self, every: str) -> None:
        self.every = every
        fields = every.split() if isinstance(every, str) else []
        zone = fields.pop() if len(fields) == 6 else "UTC"
        try:
            assert len(fields) == 5
            self.zone = ZoneInfo(zone)
        except (AssertionError, KeyError, ValueError, OSError):  # no such zone; no name of one; a folder of zones
            raise ValueError(
                "every: five fields of cron and, at wish, a time zone are expected, such as '0 9 * * 1 Europe/Berlin', "
                f"not {every!r}"
            ) from None
        self._fields = " ".join(fields)
        try:
            next(CronSim(self._fields, now().astimezone(self.zone)))
        except (CronSimError, StopIteration):
            raise ValueError(
                f"every: {self._fields!r} never comes; write a time that does in the five fields of cron"
            ) from None

    def after(self, moment: Any) -> Iterator[Any]:
        """All ticks after an aware time, in UTC."""
        for tick in CronSim(self._fields, moment.astimezone(self.zone)):
            yield tick.astimezone(moment.tzinfo)


def _are_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST_S


def is_queue_name(name: object) -> bool:
    """Whether a queue may be called so."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def problems_of_queueing(handler: Any, where: str) -> Iterator[str]:
    """What is wrong with what a handler declares of being queued."""
    arguments: Mapping[str, Any] = handler.arguments
    if not is_queue_name(handler.queue):
        yield f"{where}: `queue` must be {QUEUE_NAME}, not {reprlib.repr(handler.queue)}"
    if type(handler.priority) is not int or abs(handler.priority) > HIGHEST_PRIORITY:
        yield (
            f"{where}: `priority` must be a whole number from -1000 to {HIGHEST_PRIORITY}; higher is first; "
            f"not {reprlib.repr(handler.priority)}"
        )
    if handler.timeout is not None and not (_are_seconds(handler.timeout) and handler.timeout > 0):
        told = reprlib.repr(handler.timeout)
        yield f"{where}: `timeout` must be seconds, more than 0 and up to {LONGEST_S}, not {told}"
    for name, kind in (("retry", Retry), ("unique", Unique)):
        found = getattr(handler, name)
        if found is None:
            continue
        if not isinstance(found, kind):
            yield f"{where}: `{name}` must be a {kind.__name__}(…), not {found!r}"
        else:
            yield from (f"{where}: {problem}" for problem in found.problems())
    if isinstance(handler.unique, Unique) and isinstance(handler.unique.by, (tuple, list)):
        yield from _problems_of_names("unique", handler.unique.names(arguments), arguments, where)
    yield from _problems_of_names("concurrency_key", key_names(handler), arguments, where)
    yield from _problems_of_schedule(handler, arguments, where)


def key_names(handler: Any) -> Sequence[str]:
    """The arguments that make a handler's `concurrency_key`."""
    key = handler.concurrency_key
    return () if key is None else (key,) if isinstance(key, str) else key


def _problems_of_names(what: str, names: Any, arguments: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        yield f"{where}: {what} must be the name of an argument, or a tuple of names, not {names!r}"
        return
    for name in names:
        if name not in arguments:
            yield f"{where}: {what} names {name!r}, which is no argument; there are: {', '.join(arguments) or 'none'}"
        elif arguments[name].personal or arguments[name].sensitive:
            yield f"{where}: {what} names {name!r}, whose values may not stand in the queue's tables in clear"


def _problems_of_schedule(handler: Any, arguments: Mapping[str, Any], where: str) -> Iterator[str]:
    if handler.every is None:
        return
    try:
        Schedule(handler.every)
    except ValueError as error:
        yield f"{where}: {error}"
    if needed := [name for name, arg in arguments.items() if arg.required and name != TICK]:
        yield f"{where}: every: nobody gives it arguments, but it requires {', '.join(needed)}"
    if any(arg.sensitive for arg in arguments.values()):
        yield f"{where}: every: an action that takes secrets cannot be queued"


TICK: Final = "tick"
"""The argument that a scheduled action gets, if it declares one of this name: the time that it was scheduled for."""
