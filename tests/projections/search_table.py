"""The documents and queries of the table in docs/search.md: what each store finds for each."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from actionbus.projections.search import Match
from tests.helpers import ROOT

PAGE: Final = ROOT / "docs" / "search.md"

DOCUMENTS: dict[str, dict[str, Any]] = {
    "mail": {"title": "Write to user.name@example.com today"},
    "code": {"title": "Part ABC-1234 and ABC-1235", "n": 1},
    "apart": {"title": "1234 pieces of ABC and more", "n": 2},
    "pi": {"title": "Pi is 3.14 or so", "n": 3.14},
    "pears": {"title": "14 apples and 3 pears"},
    "snake": {"title": "the error_code is 7"},
    "munich": {"title": "Grüße aus München"},
    "munchen": {"title": "Munchen has no umlaut, nor has grusse"},
    "ecole": {"title": "L’école est fermée, dit l'école"},
    "greek": {"title": "Αθήνα"},
    "tokyo": {"title": "東京都の天気"},
    "cat": {"title": "黒猫が好き"},
    "coffee": {"title": "コーヒーカップ"},
    "seoul": {"title": "서울에서 만나요"},
    "thai": {"title": "สวัสดีครับ"},
    "hindi": {"title": "हिन्दी में खोज"},
    "rocket": {"title": "Launch 🚀 now"},
    "thumb": {"title": "Good 👍🏽 work"},
    "family": {"title": "A 👩‍👩‍👧 family of 🇩🇪"},
    "heart": {"title": "I ❤️ it"},
    "wide": {"title": "Ｗｉｄｅ ＡＢＣ"},
    "cpp": {"title": "C++ and C# code"},
    "names": {"title": "first last", "names": ["red apple", "green pear"]},
    "dont": {"title": "Don't panic"},
    "lucene": {"title": "title:x OR [a TO b] ~2 fuzzy"},
}


class Row(NamedTuple):
    """A query, and the keys of what it finds: everywhere, or differently in one of the stores."""

    text: str
    found: str
    match: Match = "words"
    elasticsearch: str | None = None
    why: str = ""


ROWS = [
    Row("user.name@example.com", "mail"),
    Row("example.com", "mail"),
    Row("example", ""),
    Row("example", "mail", "prefix"),
    Row("user.name@exam", "mail", "prefix"),
    Row("ABC-1234", "code"),
    Row("1234", "code apart"),
    Row("abc 1234", "code apart"),
    Row("3.14", "pi"),
    Row("14 3", "pears"),
    Row("error_code", "snake"),
    Row("error", "", why="the underscore joins"),
    Row("error", "snake", "prefix"),
    Row("münchen", "munich munchen"),
    Row("MUNCHEN", "munich munchen"),
    Row("Grusse", "munich munchen"),
    Row("l'école", "ecole"),
    Row("ECOLE", "", why="an apostrophe joins, as in don't"),
    Row("don’t", "dont"),
    Row("Αθηνα", "", why="accents of other scripts make a difference"),
    Row("東京", "tokyo"),
    Row("京東", ""),
    Row("天気", "tokyo"),
    Row("猫", "cat"),
    Row("コーヒー", "coffee", elasticsearch="", why="a run of Katakana is one word there"),
    Row("コーヒーカップ", "coffee"),
    Row("서울", "seoul", elasticsearch="", why="a run of Hangul is one word there"),
    Row("สวัสดี", "thai", elasticsearch="", why="a run of Thai is one word there"),
    Row("हिन्दी", "hindi"),
    Row("🚀", "rocket"),
    Row("👍", "", why="an emoji is found with its colour"),
    Row("👍🏽", "thumb"),
    Row("👩‍👩‍👧 🇩🇪", "family"),
    Row("❤", "heart", elasticsearch="", why="there the sign that shows it in colour counts"),
    Row("abc", "code apart wide"),
    Row("C++", "cpp"),
    Row("!!!", ""),
    Row("- now", "rocket"),
    Row("red pear", "names"),
    Row("red pear", "", "phrase"),
    Row("RED  apple", "names", "phrase"),
    Row("last red", "", "phrase", why="no phrase reaches from one text into the next"),
    Row("gre", "names", "prefix"),
    Row("lau.", "rocket", "prefix"),
    Row("now pan’", "", "prefix"),
    Row("c+", "cpp", "prefix", why="no sign means anything"),
    Row("title:x", "lucene"),
    Row("launch*", "rocket", why="no sign means anything"),
    Row("fuzy~2", ""),
    Row("*:*", ""),
    Row('{"match_all": {}}', ""),
    Row(".*", ""),
]


def table() -> str:
    """The table as docs/search.md has it."""
    lines = ["| query | finds | in Elasticsearch |", "|---|---|---|"]
    for row in ROWS:
        shown = f"`{row.text}`" + ("" if row.match == "words" else f" as a {row.match}")
        differs = "the same" if row.elasticsearch is None else (row.elasticsearch or "nothing")
        lines.append(f"| {shown} | {_texts(row.found)} | {differs}{f': {row.why}' if row.why else ''} |")
    return "\n".join(lines)


def _texts(keys: str) -> str:
    found = (DOCUMENTS[key] for key in keys.split())
    return ", ".join(f"“{'” “'.join([each['title'], *each.get('names', [])])}”" for each in found) or "nothing"


def with_table(page: str) -> str:
    """The page with the table as it is here."""
    return re.sub(
        r"(?s)(<!-- the table .*?-->\n).*?(<!-- its end -->)", lambda found: f"{found[1]}{table()}\n{found[2]}", page
    )


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
