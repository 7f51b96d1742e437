"""One text that must not be found, in whatever spelling; made and asked by `secrecy.scrubbing`."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from actionbus.core.secrecy.unescaping import Level, levels
from actionbus.core.values import payload

SHORT: Final = 4
"""Shorter secrets match as whole words only: a PIN of 7 must not turn 1789 into noise."""
_LONG: Final = 60
"""Of longer ones the beginning and the end are found alone too: databases and loggers cut long values."""
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_-]|%2[BbFf]|\\/){5,}")
_PADDING: Final = re.compile("(?:=|%3[Dd])*")
_HEX: Final = re.compile("[0-9A-Fa-f]{8,}")
_ONE_ALPHABET: Final = str.maketrans("-_", "+/")
_UNQUOTED: Final = re.compile(r"""[^"'\\/<>&\x00-\x1f]+""")
"""What JSON and HTML leave as it is, or escape in one way only."""
_ASCII: Final = re.compile(r"""[^"'\\/<>&\x00-\x1f\x7f-\U0010ffff]{3,}""")
"""What they leave as it is."""
_STURDY: Final = re.compile("[A-Za-z0-9]+")


class Secret:
    """Found in a text with its escapes undone at any level; in base64 and hexadecimal by decoding.

    Signs are looked for first, which is quick and nearly always in vain.
    """

    __slots__ = ("_alone", "_base64_signs", "_hex_signs", "_meant", "_signs", "_text")

    def __init__(self, text: str, *, alone: bool = False) -> None:
        self._text = text
        self._alone = alone or len(text) < SHORT
        # What looks escaped in the secret itself is undone together with the escapes of the text that it is in.
        self._meant = _folded(levels(text)[-1].text)
        ends = [text] if len(text) <= _LONG else [text[:_LONG], text[-_LONG:]]
        self._signs = tuple(map(_sturdiest, ends))
        kept = () if self._alone else _encoded(ends[0], self._signs[0])
        self._base64_signs = tuple(sign for data in kept for sign in _signs_in_base64(data))
        self._hex_signs = tuple(sign for data in kept for sign in (data.hex(), data.hex().upper()))

    def may_be_in(self, text: str) -> bool:
        """Whether it is worth while to look; never false where it is there in a spelling that is known, unless its
        letters are escaped themselves (`unescaping.may_hide`)."""
        return _any_in(self._signs, text) or _any_in(self._base64_signs, text) or _any_in(self._hex_signs, text)

    def is_in(self, found: Sequence[Level]) -> bool:
        """Whether it is in a text, of which these are the levels."""
        return next(self.spans(found), None) is not None

    def spans(self, found: Sequence[Level]) -> Iterator[tuple[int, int]]:
        """Where it stands in a text, of which these are the levels."""
        for level in found:
            yield from self._in(level, level.text, self._text)
        last = found[-1]
        if not self._meant.isspace():
            yield from self._in(last, _folded(last.text), self._meant)
        text = found[0].text
        if _any_in(self._base64_signs, text):
            yield from self._inside(text, _BASE64, self._base64_signs, _of_base64)
        if _any_in(self._hex_signs, text):
            yield from self._inside(text, _HEX, self._hex_signs, _of_hex)

    def _in(self, level: Level, text: str, wanted: str) -> Iterator[tuple[int, int]]:
        short = self._alone or len(wanted) < SHORT
        head = wanted[:_LONG]
        start = text.find(head) if head else -1
        while start >= 0:
            end = start + len(head)
            if len(wanted) > len(head):
                end = start + _agreeing(text[start : start + len(wanted)], wanted)
            if not (short and _is_part_of_word(text, start, end)):
                yield level.origin(start, end)
            start = text.find(head, end)
        if len(wanted) > _LONG and text.find(wanted) < 0:
            yield from self._ends_in(level, text, wanted)

    def _ends_in(self, level: Level, text: str, wanted: str) -> Iterator[tuple[int, int]]:
        tail = wanted[-_LONG:]
        start = text.find(tail)
        while start >= 0:
            end = start + len(tail)
            before = text[max(0, end - len(wanted)) : end]
            yield level.origin(end - _agreeing(before[::-1], wanted[::-1]), end)
            start = text.find(tail, end)

    def _inside(
        self, text: str, run: re.Pattern[str], signs: Sequence[str], decode: Callable[[str], Iterator[str]]
    ) -> Iterator[tuple[int, int]]:
        """Whole runs that hold it once they are decoded: the characters at its edges tell of it too."""
        for found in run.finditer(text):
            coded = found.group()
            if _any_in(signs, coded) and any(self._is_plainly_in(each) for each in decode(coded)):
                padding = _PADDING.match(text, found.end())
                yield found.start(), padding.end() if padding else found.end()

    def _is_plainly_in(self, text: str) -> bool:
        found = levels(text)
        return any(self._text in level.text for level in found) or self._meant in _folded(found[-1].text)


def short_codes(text: str, leaf: object) -> set[str]:
    """How a text of a few characters looks alone in base64; bytes in hexadecimal too."""
    data = leaf if isinstance(leaf, bytes) else _utf8(text)
    coded = _base64(data)
    return {coded, coded.replace("+", "-").replace("/", "_"), *([data.hex()] if isinstance(leaf, bytes) else [])}


def _any_in(signs: Sequence[str], text: str) -> bool:
    return any(sign in text for sign in signs)


def _folded(text: str) -> str:
    """With one spelling for a space and a plus, which forms in URLs confuse."""
    return text.replace("+", " ")


def _is_part_of_word(text: str, start: int, end: int) -> bool:
    around = text[max(0, start - 1) : start] + text[end : end + 1]
    return any(each.isalnum() or each == "_" for each in around)


def _agreeing(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _sturdiest(text: str) -> str:
    """The longest part of a text that no escaping changes."""
    return max(_STURDY.findall(text), key=len, default="")


def _encoded(text: str, sign: str) -> tuple[bytes, ...]:
    """Bytes of which one set is in whatever holds the text and was then put into base64 or hexadecimal."""
    sign = sign if len(sign) >= 3 else max(_ASCII.findall(text), key=len, default="")
    if sign:
        return (sign.encode(),)
    part = max(_UNQUOTED.findall(text), key=len, default="")
    ways = {_utf8(part), payload.dumps(part)[1:-1].encode(), quote(_utf8(part)).encode()}
    if all(ord(each) < 0x100 for each in part):
        ways.add(part.encode("latin-1"))
    return tuple(sorted(ways))


def _signs_in_base64(data: bytes) -> Iterator[str]:
    """What stands in base64 wherever `data` was encoded among other bytes, at each of three offsets.

    Only letters and digits, since the alphabets of base64 differ in the other two.
    """
    for offset in range(3):
        coded = _base64(b"\0" * offset + data)
        yield _sturdiest(coded[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6])


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _of_base64(run: str) -> Iterator[str]:
    """What a run of base64 may decode to: where it begins is not known."""
    if "%" in run or "\\" in run:
        run = re.sub("%2[Bb]", "+", re.sub(r"%2[Ff]|\\/", "/", run))
    run = run.translate(_ONE_ALPHABET)
    for start in range(4):
        part = run[start:]
        part = part[: len(part) - 1] if len(part) % 4 == 1 else part
        yield a2b_base64(part + "=" * (-len(part) % 4)).decode("latin-1")


def _of_hex(run: str) -> Iterator[str]:
    for start in range(2):
        part = run[start:]
        yield bytes.fromhex(part[: len(part) // 2 * 2]).decode("latin-1")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
