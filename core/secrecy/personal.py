"""Personal values in what is written down: encrypted under a key of their subject, and read again while there is one.

`gateway.sealing` closes what an action's records hold, `core.journal` opens it. Where a whole value is personal, it
becomes `{"$personal": "KEY:DATA"}`; where a text holds one, the spelling that was found becomes `[personal:KEY:DATA]`,
so that it comes back as it was. DATA is AES-256-GCM (NIST SP 800-38D) under a nonce of its own, bound to its place.
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from actionbus.core.secrecy.scrubbing import STRUCTURE, TAGS, WHOLE
from actionbus.core.secrecy.secret import Secret
from actionbus.core.secrecy.spellings import leaves, texts
from actionbus.core.secrecy.unescaping import levels, may_hide
from actionbus.core.values import payload

INSTALL: Final = "pip install 'actionbus[privacy]'"
ERASED_TEXT: Final = "[erased]"
WITHHELD_TEXT: Final = "[personal]"
_MARK: Final = "$personal"
_NONCE: Final = 12
_WRITTEN: Final = re.compile(r"([0-9a-f]{32}):([A-Za-z0-9_=-]{38,})")
_IN_TEXT: Final = re.compile(r"\[personal:([0-9a-f]{32}):([A-Za-z0-9_=-]{38,})\]")
_SHORTEST: Final = 3
"""Characters of a text that is looked for where it was not declared; a shorter one is there by coincidence."""
_SHORTEST_NUMBER: Final = 4


class SubjectKey(NamedTuple):
    """A key of a subject."""

    key_id: str
    secret: str
    """256 bits, as text."""

    @classmethod
    def new(cls) -> SubjectKey:
        """A new key, which nobody has yet."""
        return cls(os.urandom(16).hex(), urlsafe_b64encode(os.urandom(32)).decode())


def can_encrypt() -> bool:
    """Whether the library is installed."""
    return find_spec("cryptography") is not None


def _encrypted(key: SubjectKey, text: str, place: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    data = AESGCM(urlsafe_b64decode(key.secret)).encrypt(nonce, _bytes(text), place.encode())
    return f"{key.key_id}:{urlsafe_b64encode(nonce + data).decode()}"


def _decrypted(secret: str, data: str, place: str) -> str:
    """Raises ValueError for what was not encrypted there under this key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        whole = urlsafe_b64decode(data)
        text = AESGCM(urlsafe_b64decode(secret)).decrypt(whole[:_NONCE], whole[_NONCE:], place.encode())
    except InvalidTag:
        raise ValueError(f"a personal value in {place} was not written there with its subject's key") from None
    return text.decode("utf-8", "surrogatepass")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Personal:
    """The personal values of one action and those inside it, each with its subject's key."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Secret, SubjectKey]] = {}
        self._some: SubjectKey | None = None
        """For what looks encrypted already, but is not: it is to come back as it came."""

    def remember(self, value: object, key: SubjectKey) -> None:
        """Look for every text and number inside `value`; not for names in it."""
        self._some = self._some or key
        for leaf in leaves(list(_values(value))):
            is_number = isinstance(leaf, (int, float))
            for text in texts(leaf):
                if len(text) >= (_SHORTEST_NUMBER if is_number else _SHORTEST) and not text.isspace():
                    self._found.setdefault(text, (Secret(text), key))

    def sealed(self, value: Any, key: SubjectKey, place: str) -> Any:
        """A JSON value that is personal as a whole."""
        return {_MARK: _encrypted(key, payload.dumps(value), place)}

    def json(self, value: Any, place: str) -> Any:
        """A JSON value with what is found in it sealed."""
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, list):
            return [self.json(each, place) for each in value]
        if isinstance(value, dict):
            return self._object(value, place)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found = self._found.get(str(value))
            return self.sealed(value, found[1], place) if found else value
        return value

    def is_in(self, value: Any) -> bool:
        """Whether something stands in a JSON value that `json` would seal."""
        if isinstance(value, str):
            return any(True for _ in self._spans(value))
        if isinstance(value, list):
            return any(map(self.is_in, value))
        if isinstance(value, dict):
            return any((name not in STRUCTURE and self.is_in(name)) or self.is_in(each) for name, each in value.items())
        return isinstance(value, (int, float)) and not isinstance(value, bool) and str(value) in self._found

    def _object(self, value: dict[str, Any], place: str) -> Any:
        if _MARK in value and self._some:
            return self.sealed(value, self._some, place)
        if value.get("$") in WHOLE and isinstance(value.get("value"), str):
            key = next((key for _, _, key in self._spans(value["value"])), None)
            return self.sealed(value, key, place) if key else value
        return {
            name if name in STRUCTURE else self._text(name, place): each
            if name == "$" and each in TAGS
            else self.json(each, place)
            for name, each in value.items()
        }

    def _text(self, text: str, place: str) -> str:
        parts, done = [], 0
        for start, end, key in sorted(self._spans(text)):
            if start >= done:
                parts += [text[done:start], f"[personal:{_encrypted(key, text[start:end], place)}]"]
                done = end
            elif end > done:  # what overlaps belongs to both; the rest of it is the other's
                parts.append(f"[personal:{_encrypted(key, text[done:end], place)}]")
                done = end
        return "".join([*parts, text[done:]]) if done else text

    def _spans(self, text: str) -> Iterator[tuple[int, int, SubjectKey]]:
        hidden = may_hide(text)
        possible = [found for found in self._found.values() if hidden or found[0].may_be_in(text)]
        unescaped = levels(text) if possible else []
        for secret, key in possible:
            for start, end in secret.spans(unescaped):
                yield start, end, key
        if self._some:
            for mark in _IN_TEXT.finditer(text):
                yield mark.start(), mark.end(), self._some


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _values(each)
    else:
        yield value


def keys_in(value: Any) -> Iterator[str]:
    """The ids of the keys under which something in a JSON value is encrypted."""
    if isinstance(value, str):
        yield from (found[1] for found in _IN_TEXT.finditer(value))
    elif isinstance(value, list):
        for each in value:
            yield from keys_in(each)
    elif isinstance(value, dict):
        if found := _whole(value):
            yield found[1]
            return
        for name, each in value.items():
            yield from keys_in(name)
            yield from keys_in(each)


def opened(value: Any, secrets: Mapping[str, str | None], place: str) -> Any:
    """A JSON value in clear, with a marker where the key is gone. Raises ValueError for what was put there by hand."""
    if isinstance(value, str):
        return _IN_TEXT.sub(lambda found: _opened_text(found, secrets, place), value)
    if isinstance(value, list):
        return [opened(each, secrets, place) for each in value]
    if isinstance(value, dict):
        if found := _whole(value):
            secret = secrets.get(found[1])
            return dict(payload.ERASED) if secret is None else payload.loads(_decrypted(secret, found[2], place))
        return {opened(name, secrets, place): opened(each, secrets, place) for name, each in value.items()}
    return value


def withheld(value: Any) -> Any:
    """A JSON value for whoever is not to see what is personal in it, without any key."""
    if isinstance(value, str):
        return _IN_TEXT.sub(WITHHELD_TEXT, value)
    if isinstance(value, list):
        return [withheld(each) for each in value]
    if isinstance(value, dict):
        if _whole(value):
            return {_MARK: True}
        return {withheld(name): withheld(each) for name, each in value.items()}
    return value


def _opened_text(found: re.Match[str], secrets: Mapping[str, str | None], place: str) -> str:
    secret = secrets.get(found[1])
    return ERASED_TEXT if secret is None else _decrypted(secret, found[2], place)


def _whole(value: dict[str, Any]) -> re.Match[str] | None:
    data = value.get(_MARK) if len(value) == 1 else None
    return _WRITTEN.fullmatch(data) if isinstance(data, str) else None


def is_erased(value: Any) -> bool:
    """Whether a JSON value is one, or holds one, that was erased."""
    if isinstance(value, str):
        return ERASED_TEXT in value
    if isinstance(value, list):
        return any(map(is_erased, value))
    if isinstance(value, dict):
        return value == payload.ERASED or any(is_erased(name) or is_erased(each) for name, each in value.items())
    return False
