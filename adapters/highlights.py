"""HTML in which what a search found stands out, as the embedded store shows it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from actionbus.adapters.words import Phrase, Word, composed, texts_of, words_in
from actionbus.projections.fields import ALL_TEXTS

LOOKED_THROUGH: Final = 100_000
"""Characters of a text; what is found behind them is not marked."""


def highlights(document: Mapping[str, Any], fields: Sequence[str], phrases: Sequence[Phrase]) -> dict[str, list[str]]:
    """By field, its texts in HTML with what was looked for marked; only texts that have any of it."""
    found: dict[str, list[str]] = {}
    for name in list(document) if list(fields) == [ALL_TEXTS] else fields:
        marked = [_marked(each, phrases) for each in texts_of(document, name)]
        if changed := [each for each in marked if each is not None]:
            found[name] = changed
    return found


def _marked(text: str, phrases: Sequence[Phrase]) -> str | None:
    """HTML in which the words that were looked for stand out, or None if there are none of them."""
    text = composed(text)
    words = list(words_in(text[:LOOKED_THROUGH]))
    marks = _spans(words, phrases)
    if not marks:
        return None
    parts, at = [], 0
    for start, end in marks:
        parts += [html.escape(text[at:start]), "<em>", html.escape(text[start:end]), "</em>"]
        at = end
    return "".join([*parts, html.escape(text[at:])])


def _spans(words: Sequence[Word], phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Where in the text the phrases' words stand, each word of a phrase by itself, those of a run of pairs together."""
    places: dict[str, list[int]] = {}
    for number, word in enumerate(words):
        places.setdefault(word.text, []).append(number)
    found: set[tuple[int, int]] = set()
    for phrase in phrases:
        for at in _starts(places, phrase):
            if _stands(words, at, phrase):
                found |= {_span(words, number, phrase) for number in range(at, at + len(phrase.words))}
    return _merged(sorted(found))


def _starts(places: Mapping[str, Sequence[int]], phrase: Phrase) -> list[int]:
    if len(phrase.words) > 1 or not phrase.begins:
        return list(places.get(phrase.words[0], ()))
    return [number for text, numbers in places.items() if text.startswith(phrase.words[0]) for number in numbers]


def _stands(words: Sequence[Word], at: int, phrase: Phrase) -> bool:
    """Whether all of a phrase stands there."""
    there = [word.text for word in words[at : at + len(phrase.words)]]
    *before, last = phrase.words
    if len(there) < len(phrase.words) or there[:-1] != before:
        return False
    return there[-1].startswith(last) if phrase.begins else there[-1] == last


def _span(words: Sequence[Word], number: int, phrase: Phrase) -> tuple[int, int]:
    """Of a pair that was looked for by its first half, only that."""
    word = words[number]
    after = words[number + 1] if number + 1 < len(words) else None
    if phrase.begins and word.text != phrase.words[-1] and after and after.start < word.end:
        return word.start, after.start
    return word.start, word.end


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
