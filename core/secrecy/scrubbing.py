"""Keeps known secrets out of what is written or shown; one Scrubber lives as long as one action."""

from __future__ import annotations

from collections.abc import Collection, Container
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from actionbus.core.secrecy.scrubbed_errors import cleaned
from actionbus.core.secrecy.secret import SHORT, Secret, short_codes
from actionbus.core.secrecy.spellings import leaves, texts
from actionbus.core.secrecy.unescaping import levels, may_hide
from actionbus.core.values import payload
from actionbus.core.values.tagged import PATHS

SCRUBBED: Final = "[secret]"
STRUCTURE: Final = frozenset(
    {
        "$",
        "value",
        "class",
        "call",
        "args",
        "kwargs",
        "read",
        "returned",
        "raised",
        "items",
        "whole",
        "opaque",
        "context",
        "attributes",
    }
)
"""Names in the journal's own form: a secret that is one of them says nothing there."""
WHOLE: Final = frozenset({"datetime", "date", "time", "timedelta", "Decimal", "UUID", "bytes", "float"})
TAGS: Final = (
    WHOLE
    | {kind.__name__ for kind in PATHS}
    | {"tuple", "set", "frozenset", "dict", "enum", "dataclass", "exception", "opaque"}
)

active: ContextVar[Scrubber | None] = ContextVar("active", default=None)
"""The scrubber of the action whose handler runs here."""


class Scrubber:
    """Replaces every occurrence of the values it was told of. Costs nothing while it was told of none."""

    __slots__ = ("_secrets",)

    def __init__(self) -> None:
        self._secrets: dict[str, Secret] = {}

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def remember(self, value: object) -> None:
        """Take `value`, and every text and number inside it, as secret."""
        for leaf in leaves(value):
            for text in texts(leaf):
                if text not in self._secrets and not text.isspace():
                    self._secrets[text] = Secret(text)
                    if len(text) < SHORT:
                        for coded in short_codes(text, leaf):
                            self._secrets.setdefault(coded, Secret(coded, alone=True))

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        return _without(text, self._secrets.values()) if self._secrets else text

    def json(self, value: Any) -> Any:
        """A JSON value without the secrets, in its keys too."""
        possible = self._possible(value) if self._secrets else ()
        return _json(value, possible) if possible else value

    def arguments(self, values: dict[str, Any], declared: Container[str] = ()) -> dict[str, Any]:
        """JSON values by name, as callers sent them, without the secrets, in names neither but for those `declared`.

        Nor is a number of a few digits touched, which is the same by coincidence. Another, which a text could not
        stand for, is redacted as the secret itself is.
        """
        possible = self._possible(values) if self._secrets else ()
        if not possible:
            return values
        return {
            name if name in declared else _without(name, possible): _argument(each, possible)
            for name, each in values.items()
        }

    def holds(self, value: object) -> bool:
        """Whether a secret stands in the text of `value`."""
        return bool(self._secrets) and _holds(value, self._secrets.values())

    def exception(self, error: BaseException) -> BaseException:
        """Take the secrets out of an exception and of all that it leads to, in place.

        Gives the one to raise: another only where the message of a group cannot be changed.
        """
        return cleaned(error, self) if self._secrets else error

    def reraise(self, error: BaseException) -> NoReturn:
        """Raise an exception, which is being handled, without the secrets."""
        clean = self.exception(error)
        context = clean.__context__
        try:
            raise clean
        finally:
            clean.__context__ = context  # where another is raised, Python made the first one its context

    def value(self, value: Any) -> Any:
        """Any value without the secrets: of the same kind where it is text or a container, else a word in its place."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(each) for key, each in value.items()}
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(map(self.value, value))
        return SCRUBBED if not isinstance(value, BaseException) and self.holds(value) else value

    def _possible(self, value: Any) -> Collection[Secret]:
        """The secrets that need be looked for in a JSON value, seen from its text as a whole."""
        try:
            text = payload.dumps(value)
        except (ValueError, TypeError, RecursionError):
            return self._secrets.values()
        return _possible(text, self._secrets.values())


def _possible(text: str, secrets: Collection[Secret]) -> Collection[Secret]:
    """The secrets that need be looked for in a text."""
    return secrets if may_hide(text) else [secret for secret in secrets if secret.may_be_in(text)]


def _without(text: str, secrets: Collection[Secret]) -> str:
    # Where something was scrubbed before, the word in brackets is ours, even to who has it as a password.
    return SCRUBBED.join(_replaced(part, secrets) for part in text.split(SCRUBBED))


def _replaced(text: str, secrets: Collection[Secret]) -> str:
    possible = _possible(text, secrets)
    unescaped = levels(text) if possible else []
    spans = sorted(span for secret in possible for span in secret.spans(unescaped))
    parts, done = [], 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], SCRUBBED]
        done = max(done, end)
    return "".join([*parts, text[done:]]) if spans else text


def _argument(value: Any, secrets: Collection[Secret]) -> Any:
    if value == payload.REDACTED:
        return value
    shown = _json(value, secrets, shortest_number=SHORT)
    return payload.REDACTED if shown == SCRUBBED and not isinstance(value, str) else shown


def _json(value: Any, secrets: Collection[Secret], shortest_number: int = 1) -> Any:
    if isinstance(value, str):
        return _without(value, secrets)
    if isinstance(value, dict):
        if value.get("$") in WHOLE and isinstance(value.get("value"), str):
            # A part of a date or of bytes could not be read back as one.
            return SCRUBBED if _holds(value["value"], secrets) else value
        return {
            key if key in STRUCTURE else _without(key, secrets): each
            if key == "$" and each in TAGS
            else _json(each, secrets, shortest_number)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_json(each, secrets, shortest_number) for each in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and len(str(value)) >= shortest_number:
        return SCRUBBED if _holds(value, secrets) else value
    return value


def _holds(value: object, secrets: Collection[Secret]) -> bool:
    return any(_is_in(text, secrets) for leaf in leaves(value) for text in texts(leaf))


def _is_in(text: str, secrets: Collection[Secret]) -> bool:
    possible = _possible(text, secrets)
    unescaped = levels(text) if possible else []
    return any(secret.is_in(unescaped) for secret in possible)
