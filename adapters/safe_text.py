"""Text from elsewhere (a stored value, an argument, an error) as it may be shown on a terminal or written into a log.

A line of a log or a cell of a table stays one line, and nothing steers the terminal or reorders what is read.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_HARMLESS: Final = frozenset("\u200c\u200d")
"""Joiners, which hold Persian letters and emoji together."""
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: str) -> str:
    """`text` with every control character written as its escape: `\\n`, `\\x1b`, `\\u202e`."""
    return text if text.isprintable() else "".join(map(_shown, text))


def plain_lines(text: str) -> str:
    """The same, for a message of several lines that stays one."""
    return "\n".join(map(plain, text.replace("\r\n", "\n").split("\n")))


def joined(text: str) -> str:
    """The lines of a message as a single one."""
    return plain(" ".join(text.split())) if "\n" in text else plain(text)


def _shown(character: str) -> str:
    if character.isprintable() or character in _HARMLESS or unicodedata.category(character) not in _STEERING:
        return character
    return _SHORT.get(character) or character.encode("unicode_escape").decode()
