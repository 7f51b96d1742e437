"""Takes secrets out of exceptions, in place, so that the caller catches the very object; called by `scrubbing`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from sqlalchemy.exc import StatementError

_PLAIN = (str, bytes, bytearray, list, tuple, dict, set, frozenset, int, float)


class Scrubs(Protocol):
    """Takes secrets out of values: `secrecy.scrubbing` answers."""

    def text(self, text: str) -> str:
        """A text without the secrets of the call."""

    def value(self, value: Any) -> Any:
        """Any value without the secrets of the call."""

    def holds(self, value: object) -> bool:
        """Whether there is one in it."""


def cleaned(error: BaseException, scrubber: Scrubs) -> BaseException:
    """`error` without secrets, and so all that it was raised from, holds as a group or has as an attribute.

    Another object only for a BaseExceptionGroup, whose message nothing can change.
    """
    everything = list(_led_to(error))
    for each in everything:
        _clean(each, scrubber)
    instead = {id(each): _rebuilt(each, scrubber) for each in everything if _is_rigid(each, scrubber)}
    if instead:
        for each in [*everything, *instead.values()]:
            # Only when it is another: setting a cause hides the context.
            if id(each.__cause__) in instead:
                each.__cause__ = instead[id(each.__cause__)]
            if id(each.__context__) in instead:
                each.__context__ = instead[id(each.__context__)]
    return instead.get(id(error), error)


def _led_to(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that can be reached from it, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [value for value in (*each.args, *_own(each).values()) if isinstance(value, BaseException)]


def _own(error: BaseException) -> dict[str, Any]:
    """The attributes of the instance, private ones and those in slots included."""
    found = dict(vars(error))
    for kind in type(error).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            name = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            with suppress(AttributeError):
                found[name] = getattr(error, name)
    return found


def _clean(error: BaseException, scrubber: Scrubs) -> None:
    if isinstance(error, StatementError):
        error.hide_parameters = True
        error.params = None
        error.statement = scrubber.text(error.statement) if error.statement else None
        if error.orig is not None:
            error.orig = _driver_error(error.orig, scrubber)
    for name, value in _own(error).items():
        _clean_attribute(error, name, value, scrubber)
    # Built-in exceptions keep copies of their arguments outside of vars(): `strerror`, `object`, `code`.
    for name in ["args", *(each for each in dir(error) if not each.startswith("_") and each != "args")]:
        with suppress(Exception):
            value = getattr(error, name)
            if isinstance(value, _PLAIN):
                _clean_attribute(error, name, value, scrubber)
    for number, note in enumerate(getattr(error, "__notes__", [])):
        error.__notes__[number] = scrubber.text(note) if isinstance(note, str) else note
    _speak_clean(error, scrubber)


def _clean_attribute(error: BaseException, name: str, value: Any, scrubber: Scrubs) -> None:
    # An attribute that cannot be read or set is left to `_speak_clean`.
    with suppress(Exception):
        if isinstance(value, BaseException) or not scrubber.holds(value):
            return
        if name in vars(error):
            vars(error)[name] = scrubber.value(value)
        else:
            setattr(error, name, scrubber.value(value))


def _speak_clean(error: BaseException, scrubber: Scrubs) -> None:
    """Where the words still hold a secret (made by `__str__`, or a group's), give the object a class that says others.

    It has the same name, is a subclass, and so is caught wherever its own is.
    """
    said = {"__str__": _said(str, error), "__repr__": _said(repr, error)}
    clean = {name: scrubber.text(words) for name, words in said.items()}
    if clean == said:
        return
    kind = type(error)
    members: dict[str, Any] = {name: _saying(words) for name, words in clean.items()}
    members |= {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    if isinstance(error, ExceptionGroup):
        message = scrubber.text(error.message)
        members |= {"message": message, "derive": lambda self, parts: ExceptionGroup(message, parts)}
    with suppress(TypeError):
        error.__class__ = type(kind.__name__, (kind,), members)


def _said(ask: Any, error: BaseException) -> str:
    try:
        return str(ask(error))
    except Exception:
        return ""


def _saying(words: str) -> Any:
    return lambda self: words


def _is_rigid(error: BaseException, scrubber: Scrubs) -> bool:
    """Whether it is a group that still says a secret, or holds one that does."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    return scrubber.holds(str(error)) or any(_is_rigid(each, scrubber) for each in error.exceptions)


def _rebuilt(group: BaseException, scrubber: Scrubs) -> BaseException:
    assert isinstance(group, BaseExceptionGroup)
    parts = [_rebuilt(each, scrubber) if _is_rigid(each, scrubber) else each for each in group.exceptions]
    fresh: BaseExceptionGroup[Any] = BaseExceptionGroup.__new__(type(group), scrubber.text(group.message), parts)
    vars(fresh).update(vars(group))
    fresh.__traceback__, fresh.__context__, fresh.__cause__ = group.__traceback__, group.__context__, group.__cause__
    fresh.__suppress_context__ = group.__suppress_context__
    return fresh


def _driver_error(error: BaseException, scrubber: Scrubs) -> BaseException:
    """A driver's error keeps the server's message, which quotes values, where only a new one can drop it."""
    state, said = getattr(error, "pgcode", None), getattr(error, "pgerror", None)
    if state is None or not scrubber.holds([said or "", str(error)]):
        return error
    fresh = type(error)(*scrubber.value(error.args))
    fresh.__setstate__({"pgcode": state, "pgerror": scrubber.text(said or "")})
    fresh.__traceback__ = error.__traceback__
    return fresh
