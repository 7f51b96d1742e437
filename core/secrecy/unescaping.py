"""Undoes escapes in a text, of whatever kind and mixture, level by level; asked by `secrecy.secret`.

URL quoting, the backslashes of JSON, Python and SQL, HTML references, doubled quotes, UTF-8 that was read as Latin-1. A
place in an unescaped text can be told in the first one.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from typing import Final

_DEEPEST: Final = 8
_ESCAPE: Final = re.compile(
    r"""%[0-9A-Fa-f]{2}
    | \\(?: u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2}
        | u[0-9A-Fa-f]{4} | U00[01][0-9A-Fa-f]{5} | x[0-9A-Fa-f]{2} | [0-3][0-7]{2} | [nrtbfva0] | [^A-Za-z0-9] )
    | &(?: \#[0-9]{1,7} | \#[xX][0-9A-Fa-f]{1,6} | [A-Za-z][A-Za-z0-9]{1,30} );
    | '' | "" | %%
    | [\xc2-\xdf][\x80-\xbf] | [\xe0-\xef][\x80-\xbf]{2} | [\xf0-\xf4][\x80-\xbf]{3}""",
    re.VERBOSE | re.DOTALL,
)
_HIDING: Final = re.compile(
    r"""%(?: 2[2-7] | 3[0-9Bb] | [4-7][0-9A-Fa-f] )
    | \\(?: u00[2-7] | x[2-7] | U000000[2-7] | [01][0-7]{2} )
    | &(?: \# | [A-Za-z][A-Za-z0-9]{1,30}; )""",
    re.VERBOSE,
)
"""Escapes of letters and digits, which need none, and of what begins another escape."""
_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}


class Level:
    """A text, and where its characters came from in the text that is less unescaped."""

    __slots__ = ("_ends", "_outs", "_starts", "below", "text")

    def __init__(self, text: str, below: Level | None = None) -> None:
        self.text = text
        self.below = below
        self._outs: list[int] = []
        self._starts: list[int] = []
        self._ends: list[int] = []

    def unescaped(self) -> Level | None:
        """The next level; None if there is nothing to undo."""
        level = Level("", self)
        parts: list[str] = []
        out = done = 0
        for found in _ESCAPE.finditer(self.text):
            start, end = found.span()
            made = _meant(found.group())
            if len(made) != 1:
                continue
            parts += [self.text[done:start], made]
            out += start - done + 1
            level._outs.append(out - 1)
            level._starts.append(start)
            level._ends.append(end)
            done = end
        if not parts:
            return None
        level.text = "".join([*parts, self.text[done:]])
        return level

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from `start` to `end` stand in the first text of all."""
        level = self
        while level.below is not None:
            start, end = level._start(start), level._end(end - 1)
            level = level.below
        return start, end

    def _start(self, at: int) -> int:
        number = bisect_right(self._outs, at) - 1
        if number < 0:
            return at
        return self._starts[number] if self._outs[number] == at else self._beyond(number, at)

    def _end(self, last: int) -> int:
        number = bisect_right(self._outs, last) - 1
        if number < 0:
            return last + 1
        return self._ends[number] if self._outs[number] == last else self._beyond(number, last) + 1

    def _beyond(self, number: int, at: int) -> int:
        return self._ends[number] + at - self._outs[number] - 1


def may_hide(text: str) -> bool:
    """Whether letters or digits of a text may be escaped; quickly false for ordinary ones."""
    return ("%" in text or "\\" in text or "&" in text) and _HIDING.search(text) is not None


def levels(text: str) -> list[Level]:
    """The text itself, and the same with escapes undone once, twice, until there are none."""
    found = [Level(text)]
    while len(found) < _DEEPEST and (above := found[-1].unescaped()):
        found.append(above)
    return found


def _referred(name: str) -> str:
    """What an HTML reference stands for, if it is one."""
    if name[0] != "#":
        return html.unescape(f"&{name};")
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    return chr(code) if code < 0x110000 else ""


def _meant(escape: str) -> str:
    """The character that an escape stands for."""
    first, rest = escape[0], escape[1:]
    if first == "%":
        return "%" if rest == "%" else chr(int(rest, 16))
    if first == "&":
        return _referred(rest[:-1])
    if first != "\\":
        return first if escape in ("''", '""') else escape.encode("latin-1").decode("utf-8", "replace")
    if rest[0] == "u" and len(rest) > 5:
        return bytes.fromhex(rest[1:5] + rest[7:]).decode("utf-16-be")
    if rest[0] in "uUx" and len(rest) > 1:
        code = int(rest[1:], 16)
        return chr(code) if code < 0x110000 else escape
    if len(rest) == 3:
        return chr(int(rest, 8))
    return _LETTERS.get(rest, rest)
