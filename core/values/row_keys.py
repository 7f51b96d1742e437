"""The key of a row in one text, as the command line, addresses and pages have it; read by `history.shapes`.

The values of several columns stand in it with commas between. Where a comma is part of one they are a JSON array:
`["a,b",5]`. The key of one column is its text, whatever that holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from actionbus.core.values.payload import dumps


def key_parts(text: str, columns: int) -> tuple[Any, ...]:
    """The values in the text of a key of so many columns; others than so many if it is none."""
    if columns < 2:
        return (text,)
    if text.startswith("["):
        try:
            found = json.loads(text, parse_float=str)
        except ValueError:
            found = None
        if isinstance(found, list) and len(found) == columns and all(map(_is_plain, found)):
            return tuple(found)
    return tuple(text.split(","))


def key_text(parts: Sequence[Any]) -> str:
    """The text of a key's values, which `key_parts` reads as the same."""
    texts = [each if isinstance(each, str) else dumps(each) for each in parts]
    joined = ",".join(texts)
    return joined if key_parts(joined, len(parts)) == tuple(texts) else dumps(list(parts))


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, bool))
