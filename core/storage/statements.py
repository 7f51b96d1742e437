"""Reads SQL for what a handler may not say on its action's connection, and for what would outlast the action there.

Asked by `gateway.transaction` before each statement; knows nothing of either database. It reads words at the beginning
of statements, past comments and whatever is quoted, and takes what it cannot read for harmless: a transaction that was
ended all the same is noticed when the action ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

ENDED_INSIDE: Final = (
    "the action's transaction was ended inside of its handler (COMMIT, ROLLBACK or the like on the driver's "
    "connection); what was written before that may have been committed, what came after is not kept. End nothing: the "
    "gateway commits the action with its outcome; use session.begin_nested() for a part that may fail"
)
_LONGEST_REMEMBERED: Final = 2_000

_ENOUGH: Final = 6
"""How many words of a statement tell what it is."""
_WITH_BODY: Final = frozenset({"trigger", "function", "procedure"})
_MAY_END: Final = re.compile(r"\b(?:begin|start|commit|end|abort|rollback|prepare|reset)\b", re.I)
_MAY_OUTLAST: Final = re.compile(r"\b(?:discard|deallocate|prepare|load|authorization)\b", re.I)
_OUTLAST: Final = frozenset({"discard", "deallocate", "prepare", "load"})

_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_NEXT: Final = re.compile(
    r"""
      (?P<space>   [\s\ufeff]++ | --[^\n\r]*+ )
    | (?P<comment> /\* )
    | (?P<end>     ; )
    | (?P<dollar>  \$(?:[^\W\d]\w*+)?\$ )
    | (?P<quoted>  [eE]'(?:[^'\\]|\\.|'')*+'  |  '(?:[^']|'')*+'  |  "(?:[^"]|"")*+" )
    | (?P<word>    [^\W\d][\w$]*+ )
    | (?P<other>   [^\s'"$;/\-\w]++ | \d\w*+ | . )
    """,
    re.X | re.S,
)


class Reading(NamedTuple):
    """What a text of one or more statements does besides reading and writing."""

    ends: str | None
    """The word that would begin or end a transaction."""
    outlasts: bool
    """Whether something of a PostgreSQL session stays changed that its end does not put back."""


HARMLESS: Final = Reading(None, False)


def read(statement: str) -> Reading:
    """What `statement` does besides reading and writing; short texts are remembered."""
    return _remembered(statement) if len(statement) <= _LONGEST_REMEMBERED else _read(statement)


def _read(statement: str) -> Reading:
    may_end, may_outlast = _MAY_END.search(statement), _MAY_OUTLAST.search(statement)
    if not may_end and not may_outlast:
        return HARMLESS
    ends, lasting = None, False
    for words in _beginnings(statement):
        if _ends_transaction(words):
            ends = ends or words[0].upper()
        lasting = lasting or words[0] in _OUTLAST or (words[0] == "set" and "authorization" in words)
    return Reading(ends, lasting)


_remembered = lru_cache(maxsize=1024)(_read)


def _ends_transaction(words: Sequence[str]) -> bool:
    match words[0]:
        case "rollback":
            return "to" not in words[1:3]
        case "start" | "prepare":
            return words[1] == "transaction"
        case "begin" | "commit" | "end" | "abort":
            return True
        case "reset":
            return words[1] == "all"  # with all settings goes the one that tells the transaction from others
    return False


def _beginnings(text: str) -> Iterator[Sequence[str]]:
    """The first words of each statement, in lower case; an empty text for what is no word, or is not there."""
    words: list[str] = []
    position, depth = 0, 0
    while position < len(text):
        found = _NEXT.match(text, position)
        assert found is not None, "the last alternative takes any character"
        position, kind = found.end(), found.lastgroup
        if kind == "comment":
            position = _after_comment(text, position)
        elif kind == "dollar":
            closing = text.find(found[0], position)
            position = len(text) if closing < 0 else closing + len(found[0])
        elif kind == "end" and not depth:
            yield _padded(words)
            words = []
        elif kind == "word" and words[:1] == ["create"] and not _WITH_BODY.isdisjoint(words):
            # A body has semicolons, and an END, of its own.
            depth += {"begin": 1, "case": 1, "end": -1}.get(found[0].lower(), 0)
        if kind in ("word", "dollar", "quoted", "other") and len(words) < _ENOUGH:
            words.append(found[0].lower() if kind == "word" else "")
    yield _padded(words)


def _padded(words: list[str]) -> list[str]:
    return words + [""] * (_ENOUGH - len(words))


def _after_comment(text: str, position: int) -> int:
    """Where a comment that began just before `position` ends; they nest."""
    depth = 1
    while depth and (found := _COMMENT_EDGE.search(text, position)):
        depth += 1 if found[0] == "/*" else -1
        position = found.end()
    return position if not depth else len(text)
