"""Keeps known secrets out of what is written or shown; one Scrubber lives as long as one action."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy.exc import StatementError

SCRUBBED = "[secret]"
_SHORT = 4


class Scrubber:
    """Replaces every occurrence of the values it was told of. Cheap while it was told of none."""

    __slots__ = ("_pattern", "_secrets")

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def remember(self, value: object) -> None:
        """Take `value`, and every text and number inside it, as secret."""
        found = {text for leaf in _leaves(value) for text in _spellings(leaf)}
        if found - self._secrets:
            self._secrets |= found
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(_matching(secret) for secret in longest_first))

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        return self._pattern.sub(SCRUBBED, text) if self._pattern else text

    def json(self, value: Any) -> Any:
        """A JSON value without the secrets, in keys neither."""
        if not self._pattern:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.json(each) for each in value]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.holds(value):
            return SCRUBBED
        return value

    def holds(self, value: object) -> bool:
        """Whether a secret stands in the text of `value`."""
        return self._pattern is not None and any(
            self._pattern.search(text) for leaf in _leaves(value) for text in _spellings(leaf)
        )

    def exception(self, error: BaseException) -> None:
        """Take the secrets out of an exception and of all that are chained to it, in place."""
        if not self._pattern:
            return
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            each = waiting.pop()
            if each is None or id(each) in seen:
                continue
            seen.add(id(each))
            waiting += [each.__cause__, each.__context__]
            if isinstance(each, BaseExceptionGroup):
                waiting += each.exceptions
            self._clean(each)

    def _clean(self, error: BaseException) -> None:
        if isinstance(error, StatementError):
            error.hide_parameters = True
            error.params = None
            error.statement = self.text(error.statement) if error.statement else None
            if error.orig is not None:
                error.orig = self._driver_error(error.orig)
        # Not vars() alone: built-in exceptions keep copies of their arguments in slots (`strerror`, `object`, `code`).
        for name in ["args", *(each for each in dir(error) if not each.startswith("_") and each != "args")]:
            self._clean_attribute(error, name)
        for number, note in enumerate(getattr(error, "__notes__", [])):
            error.__notes__[number] = self.text(note)

    def _clean_attribute(self, error: BaseException, name: str) -> None:
        try:
            value = getattr(error, name)
            if isinstance(value, (str, bytes, list, tuple, dict, set, int)) and self.holds(value):
                setattr(error, name, self._argument(value))
        except Exception:
            return  # an attribute that cannot be read or set is not where a message comes from

    def _argument(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (dict, list)):
            return self.json(value)
        if isinstance(value, tuple):
            return tuple(self._argument(each) for each in value)
        return SCRUBBED if not isinstance(value, BaseException) and self.holds(value) else value

    def _driver_error(self, error: BaseException) -> BaseException:
        """A driver's error keeps the server's message, which quotes values, where only a new one can drop it."""
        state = getattr(error, "pgcode", None)
        if state is None:
            return error
        fresh = type(error)(*(self._argument(each) for each in error.args))
        fresh.__setstate__({"pgcode": state, "pgerror": self.text(getattr(error, "pgerror", "") or "")})
        fresh.__traceback__ = error.__traceback__
        return fresh


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(key)
            yield from _leaves(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield value


def _spellings(leaf: object) -> Iterator[str]:
    """The texts under which a value turns up: plain, escaped in a repr, in hexadecimal for bytes."""
    if isinstance(leaf, bytes):
        yield from (leaf.hex(), leaf.decode("latin-1"), repr(leaf)[2:-1])
    else:
        text = str(leaf)
        yield from {text, repr(text)[1:-1], ascii(text)[1:-1], text.strip()} - {""}


def _matching(secret: str) -> str:
    """Short secrets match as whole words only: a PIN of 7 must not turn 1789 into noise."""
    escaped = re.escape(secret)
    return escaped if len(secret) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"
