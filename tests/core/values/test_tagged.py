"""Tagged JSON is frozen: what stands in journals reads back as it was written (`core/values/tagged.py`)."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionbus import Misuse
from actionbus.core.values.tagged import Opaque, decode, encode


class Kind(enum.Enum):
    """An enumeration of an application."""

    ICON = 1


@dataclass(frozen=True)
class Receipt:
    """What a dependency of an application returns."""

    number: int
    kinds: tuple[Kind, ...]


HERE = __name__
FROZEN: list[tuple[Any, str]] = [
    (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), '{"$": "datetime", "value": "2026-01-02T03:04:05.000006+00:00"}'),
    (date(2026, 1, 2), '{"$": "date", "value": "2026-01-02"}'),
    (time(1, 2), '{"$": "time", "value": "01:02:00"}'),
    (timedelta(days=-1, microseconds=1), '{"$": "timedelta", "value": "-86399999999"}'),
    (Decimal("1.10"), '{"$": "Decimal", "value": "1.10"}'),
    (UUID(int=1), '{"$": "UUID", "value": "00000000-0000-0000-0000-000000000001"}'),
    (b"\x00\xff", '{"$": "bytes", "value": "AP8="}'),
    (float("inf"), '{"$": "float", "value": "inf"}'),
    (PurePosixPath("/a"), '{"$": "PurePosixPath", "value": "/a"}'),
    ((1, (2,)), '{"$": "tuple", "value": [1, {"$": "tuple", "value": [2]}]}'),
    ({2, 1}, '{"$": "set", "value": [1, 2]}'),
    (frozenset({1}), '{"$": "frozenset", "value": [1]}'),
    ({1: 2}, '{"$": "dict", "value": [[1, 2]]}'),
    ({"$": 1}, '{"$": "dict", "value": [["$", 1]]}'),
    (Kind.ICON, f'{{"$": "enum", "class": "{HERE}:Kind", "value": "ICON"}}'),
    (Misuse, '{"$": "exception", "class": "actionbus:Misuse", "value": null}'),
    (
        Receipt(1, (Kind.ICON,)),
        f'{{"$": "dataclass", "class": "{HERE}:Receipt", "value": {{"number": 1, "kinds": {{"$": "tuple", "value": '
        f'[{{"$": "enum", "class": "{HERE}:Kind", "value": "ICON"}}]}}}}}}',
    ),
]


@pytest.mark.parametrize(("value", "text"), FROZEN, ids=[text for _, text in FROZEN])
def test_a_value_is_written_so_and_comes_back(value: Any, text: str) -> None:
    assert json.dumps(encode(value)) == text
    again = decode(json.loads(text))
    assert again == value
    assert type(again) is type(value)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from(Kind),
)
VALUES = st.recursive(
    LEAVES,
    lambda within: st.lists(within) | st.lists(within).map(tuple) | st.dictionaries(st.text() | st.integers(), within),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_whatever_is_written_comes_back_through_json(value: Any) -> None:
    """But for `fold`, which a text of ISO 8601 has not: beside an offset it says nothing."""
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value
    assert repr(again) == repr(value).replace(", fold=1", "")


def _kind(value: Any) -> str:
    """A name for a value that is the same in every process."""
    return type(value).__name__


@pytest.mark.parametrize("value", [float("nan"), object(), ValueError("x"), [object()], {"a": float("nan")}], ids=_kind)
def test_what_would_come_back_otherwise_is_opaque(value: Any) -> None:
    with pytest.raises(Opaque):
        encode(value)


@pytest.mark.parametrize("name", ["os:system", "nowhere:Kind", f"{HERE}:nothing", f"{HERE}:HERE", ":", ""])
@pytest.mark.parametrize("tag", ["enum", "exception", "dataclass", "no tag"])
def test_a_journal_names_no_class_but_one_of_its_kind(tag: str, name: str) -> None:
    """Nor has it anything imported, or called."""
    with pytest.raises(Opaque):
        decode({"$": tag, "class": name, "value": {}})
