"""Cuts text into the words that are searched: of documents and of queries alike. Both stores ask it.

Words end where Unicode's annex 29 says, which Elasticsearch's `standard` tokenizer follows too, so that `3.14`, `don't`
and `example.com` are one word and `ABC-1234` are two. An emoji is a word, with its skin and what joins it to others.
Scripts without spaces are cut into overlapping pairs: 東京都 is 東京, 京都, 都. So whatever is looked for in such a run
begins one of its words. Case, width and the accents of Latin letters make no difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

LONGEST_WORD: Final = 255
"""Characters; what is longer is cut there, as Elasticsearch does."""
GAP: Final = "¶"
"""Stands between two texts, so that no phrase reaches from one into the next. It is never a word."""

_PAIRED: Final = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1100, 0x11FF),
    (0x1780, 0x17FF),
    (0x19E0, 0x19FF),
    (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x318F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0xFFA0, 0xFFDC),
    (0x16FE0, 0x18DFF),
    (0x1AFF0, 0x1B2FF),
    (0x20000, 0x3FFFF),
)
"""Thai, Lao, Burmese, Hangul, Khmer, Tai, Han, Kana, Bopomofo, Yi's neighbours: written without spaces, or with few."""
_EMOJI: Final = (0x1F000, 0x1FAFF)
_SINGLE: Final = {
    "'": "A",
    "\u2018": "D",
    "\u2019": "D",
    ".": "D",
    "\u2024": "D",
    "\ufe52": "D",
    "\uff07": "D",
    "\uff0e": "D",
    ":": "B",
    "\u00b7": "B",
    "\u0387": "B",
    "\u055f": "B",
    "\u05f4": "B",
    "\u2027": "B",
    "\ufe13": "B",
    "\ufe55": "B",
    "\uff1a": "B",
    ",": "X",
    ";": "X",
    "\u037e": "X",
    "\u0589": "X",
    "\u060c": "X",
    "\u060d": "X",
    "\u066c": "X",
    "\u07f8": "X",
    "\u2044": "X",
    "\ufe10": "X",
    "\ufe14": "X",
    "\ufe50": "X",
    "\ufe54": "X",
    "\uff0c": "X",
    "\uff1b": "X",
    "\u200d": "Z",
    "\u200b": "P",
    "\u3030": "E",
    "\u303d": "E",
}
"""B joins letters, X digits, A and D either; the names of `_kind_of`."""


def _kind_of(point: int) -> str:
    """L a letter, N a digit, U what joins both, M what belongs to the one before, C one of a script that is paired,
    E an emoji, R a letter of a flag, Z the joiner, P anything else.
    """
    character = chr(point)
    if found := _SINGLE.get(character):
        return found
    if 0x1F1E6 <= point <= 0x1F1FF:
        return "R"
    if 0x1F3FB <= point <= 0x1F3FF:
        return "M"  # the colour of a skin
    category = unicodedata.category(character)
    if category in ("Mn", "Mc", "Me", "Cf") or character in "\uff9e\uff9f":
        return "M"  # the last two are the marks of narrow Kana
    if any(first <= point <= last for first, last in _PAIRED) and character.isalnum():
        return "C"
    if _EMOJI[0] <= point <= _EMOJI[1] or category == "So":
        return "E"
    if category == "Nd":
        return "N"
    if category == "Pc":
        return "U"
    return "L" if character.isalnum() else "P"


class _Kinds(dict[int, str]):
    """The kind of each character met so far."""

    def __missing__(self, point: int) -> str:
        self[point] = found = _kind_of(point)
        return found


_KINDS: Final = _Kinds({point: _kind_of(point) for point in range(128)})
_WORD: Final = re.compile(
    "(?P<paired>C[CMZ]*+)"
    "|(?:(?<!U)U++)?+(?:L[LMZ]*+(?:[ABD]M*(?=L))?+|N[NMZ]*+(?:[ADX]M*(?=N))?+|(?<=[LNMZ])U[UMZ]*+)++"
    "|RM*+RM*+|[ER]M*+(?:ZM*+EM*+)*+"
)
_PLAIN_WORD: Final = re.compile(
    "(?:(?<!_)_++)?+(?:[a-z]++(?:['.:](?=[a-z]))?+|[0-9]++(?:['.,;](?=[0-9]))?+|(?<=[a-z0-9])_++)++"
)
"""`_WORD` for lower case ASCII, of which no character is a mark, an emoji, or of a script that is paired."""
_LATIN: Final = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "ð": "d",
        "ħ": "h",
        "ı": "i",
        "ŧ": "t",
        "ŋ": "n",
        "ɓ": "b",
        "ɗ": "d",
        "ƒ": "f",
        "ĸ": "q",
        "ə": "a",
        "’": "'",
        "‘": "'",
    }
)
"""Latin letters that Unicode does not take apart, as Lucene's ASCIIFoldingFilter has them."""
_ACCENTED: Final = re.compile("([a-z])[\u0300-\u036f]+")
_STRAY: Final = re.compile(r"[^a-z0-9_'.:,;\x80-\U0010ffff]+")
"""What compatibility forms such as ℀ bring in: no store need know how to quote it."""
_UNSEEN: Final = re.compile(
    "[\u00ad\u061c\u20e3\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)
"""Hyphens and joiners that are not shown, marks of direction, what chooses between forms of a sign."""


_UNSEEN_END: Final = re.compile(f"{_UNSEEN.pattern}$")


class Word(NamedTuple):
    """What is looked for, and where it stands in the text."""

    text: str
    start: int
    end: int


class Phrase(NamedTuple):
    """Words that stand side by side; the last of them `begins` another one, or is it."""

    words: tuple[str, ...]
    begins: bool


def composed(text: str) -> str:
    """The same text in Unicode's form C: é may come as one character or as two, and Hangul in parts."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def words_in(text: str) -> Iterator[Word]:
    """The words of a text, in order; where they stand is told of the text as `composed` has it."""
    text = composed(text)
    kinds = text.translate(_KINDS)
    lowered = text.lower() if text.isascii() else None
    for found in _WORD.finditer(kinds):
        start, end = found.span()
        if found.lastgroup:
            yield from _pairs(text, kinds, start, end)
            continue
        word = lowered[start:end] if lowered is not None else _folded(text[start:end])
        if len(word) <= LONGEST_WORD:
            if word:
                yield Word(word, start, end)
            continue
        for at in range(0, len(word), LONGEST_WORD):
            yield Word(word[at : at + LONGEST_WORD], start, end)


def without_tail(text: str) -> str:
    """As it was written, up to the end of its last word and without what is unseen there; empty if it has no word."""
    whole = composed(text)
    end = max((word.end for word in words_in(whole)), default=0)
    return _UNSEEN_END.sub("", text.removesuffix(whole[end:])) if end else ""


def _pairs(text: str, kinds: str, start: int, end: int) -> Iterator[Word]:
    """Each character with the next, and the last one alone."""
    starts = [at for at in range(start, end) if kinds[at] == "C"]
    for number, at in enumerate(starts):
        stop = starts[number + 2] if number + 2 < len(starts) else end
        if word := _folded(text[at:stop]):
            yield Word(word, at, stop)


@lru_cache(maxsize=10_000)
def _folded(word: str) -> str:
    """Without what makes no difference; the accents of other scripts than Latin make one."""
    plain = unicodedata.normalize("NFKC", _UNSEEN.sub("", word)).casefold()
    stripped = _ACCENTED.sub(r"\1", unicodedata.normalize("NFD", plain.translate(_LATIN)))
    return _STRAY.sub("", unicodedata.normalize("NFC", stripped).translate(_LATIN))


def phrases_in(text: str, match: str = "words") -> list[Phrase]:
    """What a query asks for: `words` apart, a `phrase` side by side, or words whose last one is a `prefix`.

    What is written without a space between, such as `ABC-1234`, stands side by side in any case.
    """
    parts = [text] if match == "phrase" else text.split()
    cut = [list(words_in(part)) for part in parts]
    found = [_phrase(words) for words in cut if words]
    if match == "prefix" and found:
        found[-1] = found[-1]._replace(begins=True)
    return list(dict.fromkeys(found))


def _phrase(words: Sequence[Word]) -> Phrase:
    """The last of a run of pairs is half of the pair before it, or begins one in a document."""
    texts = [word.text for word in words]
    if not is_paired(texts[-1]):
        return Phrase(tuple(texts), begins=False)
    if len(words) > 1 and words[-2].end == words[-1].end:
        return Phrase(tuple(texts[:-1]), begins=False)
    return Phrase(tuple(texts), begins=True)


def is_paired(word: str) -> bool:
    """Whether it is of a script that is cut into pairs."""
    return _KINDS[ord(word[0])] == "C"


def indexed_words(document: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """The words of a document's text fields, with gaps between the texts."""
    found: list[str] = []
    for name in fields:
        for each in texts_of(document, name):
            found += _plain_words(each) if each.isascii() else (word.text for word in words_in(each))
            found.append(GAP)
    return found


def _plain_words(text: str) -> list[str]:
    """The same as of `words_in` for a text of ASCII alone, as most of what is indexed is, in a third of the time."""
    found = _PLAIN_WORD.findall(text.lower())
    if max(map(len, found), default=0) > LONGEST_WORD:
        return [word.text for word in words_in(text)]
    return found


def texts_of(document: Mapping[str, Any], name: str) -> Iterator[str]:
    """The texts of a field, whose name may lead into objects; `*` stands for all texts there are."""
    if name == "*":
        yield from _every_text(document)
        return
    first, _, rest = name.partition(".")
    value = document.get(first)
    for each in value if isinstance(value, list) else [value]:
        if rest and isinstance(each, Mapping):
            yield from texts_of(each, rest)
        elif not rest:
            yield from _texts(each)


def _every_text(document: Any) -> Iterator[str]:
    for value in document.values() if isinstance(document, Mapping) else document:
        if isinstance(value, (Mapping, list)):
            yield from _every_text(value)
        else:
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    """As Elasticsearch has it, a number in a text field is a text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, (int, float)):
        yield str(value)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
