"""How values of the journal look in a page: safe, bounded, told apart by kind. Used by the templates, as filters.

Values are hostile: text is escaped, and characters that are not seen or that turn the order of others around are shown
by their numbers. Nothing of a value ever becomes markup, an address or a style.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

MASKED: Final = {"$masked": True}
PERSONAL: Final = {"$personal": True}
UNKNOWN: Final = {"$unknown": True}
_SHORT: Final = 120
"""Characters of a value in a list."""
_ON_ONE_LINE: Final = 80
_FOLDED: Final = 400
"""Longer ones are folded."""
_LONGEST: Final = 20_000
"""Characters of one value that are shown at all."""
_KEPT: Final = frozenset("\n\t\u200d")
"""A zero-width joiner holds an emoji together."""
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_MARKS: Final = 4
"""Upon one letter; more would cover what stands around it."""
_ACTION_ID: Final = re.compile(r"\b([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b")
_WORDS: Final = (
    (MASKED, "masked", "you may not see this value"),
    (PERSONAL, "personal", "personal: you may not see this value"),
    (UNKNOWN, "unknown", "not recorded when the row was written: not NULL, nor any other value"),
)


def seen(text: str) -> str:
    """A text whose every character is seen, and none of which turns others around."""
    if text.isascii() and text.isprintable():
        return text
    shown, marks = list[str](), 0
    for each in text:
        category = unicodedata.category(each)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        is_new_emoji = "\U0001f000" <= each <= "\U0001faff"  # of a Unicode that this Python does not know
        is_seen = each in _KEPT or is_new_emoji or (category not in _UNSEEN and marks <= _MARKS)
        shown.append(each if is_seen else f"\\u{{{ord(each):x}}}")
    return "".join(shown)


def text_of(value: Any) -> str:
    """A value as one text: itself, or JSON."""
    if isinstance(value, str):
        return seen(value)
    if isinstance(value, (Mapping, list, tuple)):
        return seen(_json(value))
    return "null" if value is None else _number(value)


def brief(value: Any, longest: int = _SHORT) -> str:
    """The same on one line of a list."""
    for like, word, _ in _WORDS:
        if value == like:
            return f"({word})"
    text = " ".join(text_of(value).split()) if isinstance(value, str) else text_of(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def withheld(value: Any) -> bool:
    """Whether it is not a value, but says that there is one that the caller may not see."""
    return value in (MASKED, PERSONAL)


def shown(value: Any) -> Markup:
    """A value as markup: its kind is its class, the long is folded, of the longest only the beginning is there."""
    for like, word, why in _WORDS:
        if value == like:
            return Markup('<span class="v {0}" title="{1}">{0}</span>').format(word, why)
    if isinstance(value, Mapping) and set(value) == {"$long"}:
        return Markup('<span class="v unknown" title="open the record to see it">{} characters</span>').format(
            value["$long"]
        )
    if isinstance(value, Mapping) and set(value) == {"$erased"}:
        return Markup('<span class="v erased" title="erased: {}">erased</span>').format(seen(str(value["$erased"])))
    if value is None:
        return Markup('<span class="v null">null</span>')
    if value == "":
        return Markup('<span class="v null">empty text</span>')
    if isinstance(value, bool):
        return Markup('<span class="v bool">{}</span>').format("true" if value else "false")
    if isinstance(value, (int, float)):
        return Markup('<span class="v num">{}</span>').format(_number(value))
    if isinstance(value, str):
        return _folded(seen(value), "text")
    line = seen(_json(value))
    return _folded(line if len(line) <= _ON_ONE_LINE else seen(_json(value, 2)), "json")


def _folded(text: str, kind: str) -> Markup:
    left = len(text) - _LONGEST
    cut = text if left <= 0 else text[:_LONGEST]
    rest = Markup('<span class="more">… and {:,} characters more</span>').format(left) if left > 0 else ""
    whole = Markup('<bdi class="v {}">{}</bdi>').format(kind, cut) + rest
    if len(text) <= _FOLDED:
        return whole
    first = " ".join(text[:80].split())
    head = Markup("<summary><bdi>{}…</bdi> <small>{:,} characters</small></summary>").format(first, len(text))
    return Markup('<details class="long">{}{}</details>').format(head, whole)


def linked(text: str, root: str) -> Markup:
    """A text of ours in which the ids of actions lead to them."""
    parts = _ACTION_ID.split(seen(text))
    link = Markup('<a href="{0}/actions/{1}">{1}</a>')
    return Markup("").join(link.format(root, each) if at % 2 else escape(each) for at, each in enumerate(parts))


def moment(text: Any) -> Markup:
    """A time as `<time>`, in UTC, to the second; the whole of it in its title."""
    if not text:
        return Markup('<span class="v null">-</span>')
    when = moment_of(str(text))
    if when is None:
        return escape(seen(str(text)))
    return Markup('<time datetime="{0}" title="{0}">{1:%Y-%m-%d} <b>{1:%H:%M:%S}</b></time>').format(
        when.isoformat().replace("+00:00", "Z"), when
    )


def moment_of(text: str) -> datetime | None:
    """A time that is in UTC where it says nothing; None for what is not a time."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def duration(microseconds: Any) -> str:
    """How long something took, with a unit."""
    if not isinstance(microseconds, (int, float)):
        return "-"
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:,.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1_000_000:,.2f} s"


def gist(record: Mapping[str, Any]) -> str:
    """A record in a few words: what was asked with, or what went wrong."""
    error, arguments = record.get("error"), record.get("arguments")
    if record.get("kind") == "bypass":
        context = record.get("context")
        told = context if isinstance(context, Mapping) else {}
        named = {each: told.get(each) for each in ("user", "role", "application", "client", "baseline")}
        return " ".join(f"{name}={brief(value, 40)}" for name, value in named.items() if value)
    if isinstance(error, Mapping) and error.get("message") is not None:
        return brief(error["message"], 200)
    if not isinstance(arguments, Mapping) or arguments == MASKED:
        return brief(arguments) if arguments else ""
    # Names and numbers tell a person more than ids do, so the long values come last.
    ordered = sorted(arguments.items(), key=lambda each: len(str(each[1])) > 30)
    return " ".join(
        f"{seen(str(name))}={brief(value, 40)}" for name, value in ordered if value not in (None, "", [], {})
    )


def _json(value: Any, indent: int | None = None) -> str:
    """JSON in the letters that people read, indented or not, of whatever it is: hence not `values.payload`."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _number(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
