"""Conversions of arguments: helpful, never lossy; nothing that a client sends is a server's error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError, fields, validate

from actionbus import Arg, Bus, InvalidArguments, LimitExceeded, Limits, UnknownAction
from actionbus.core.declare.arg import build_schema
from actionbus.core.values import payload
from tests.conftest import TORTURE, BusFactory
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Point(Schema):
    x = fields.Integer(required=True)
    y = fields.Integer(load_default=0)


def load(arg: Arg, value: Any) -> Any:
    return build_schema("test", {"a": arg}).load({"a": value})["a"]


ACCEPTED: list[tuple[Any, Any, Any]] = [
    (str, "x", "x"),
    (str, "", ""),
    (str, "\t\x01é😀", "\t\x01é😀"),
    (int, 5, 5),
    (int, "12", 12),
    (int, " -7 ", -7),
    (int, 5.0, 5),
    (int, 10**50, 10**50),
    (float, 5, 5.0),
    (float, "1.5e3", 1500.0),
    (float, -0.0, -0.0),
    (float, 2**53, float(2**53)),
    (bool, True, True),
    (bool, 0, False),
    (bool, "TRUE", True),
    (bool, "0", False),
    (Decimal, "12.10", Decimal("12.10")),
    (Decimal, 0.1, Decimal("0.1")),
    (Decimal, 7, Decimal(7)),
    (Decimal, "1e400", Decimal("1E+400")),
    (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    (datetime, "2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    (datetime, "2026-01-31 12:00:00+02:00", datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))),
    (date, "2026-01-31", date(2026, 1, 31)),
    (time, "12:30", time(12, 30)),
    (timedelta, 90, timedelta(seconds=90)),
    (timedelta, "PT1H30M", timedelta(minutes=90)),
    (timedelta, "-P1DT0.000001S", -timedelta(days=1, microseconds=1)),
    (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Colour, "red", Colour.RED),
    (Colour, "BLUE", Colour.BLUE),
    (Level, 2, Level.HIGH),
    (list[int], ["1", 2], [1, 2]),
    (list, [1, "a"], [1, "a"]),
    (dict, {"a": [1]}, {"a": [1]}),
    (dict[str, int], {"a": "1"}, {"a": 1}),
    (list[list[str]], [["a"]], [["a"]]),
    (Point, {"x": "1"}, {"x": 1, "y": 0}),
    (list[Point], [{"x": 1}], [{"x": 1, "y": 0}]),
    (fields.Email(), "a@example.org", "a@example.org"),
]

REFUSED: list[tuple[Any, Any]] = [
    (str, 5),
    (str, None),
    (str, ["a"]),
    (int, 5.7),
    (int, "5.0"),
    (int, True),
    (int, "1_000"),
    (int, "१२"),
    (int, ""),
    (int, 1e300),
    *((float, each) for each in ("nan", "inf", True, 2**53 + 1, "1e400", 10**400)),
    *((bool, each) for each in (2, "yes", 1.0, None)),
    (Decimal, "NaN"),
    (Decimal, "x"),
    (Decimal, True),
    (datetime, 5),
    (datetime, "2026-01-31"),
    (datetime, "tomorrow"),
    (date, "2026-02-30"),
    (time, "25:00"),
    (timedelta, "PT"),
    (timedelta, "P"),
    (timedelta, "1h"),
    (timedelta, 1e300),
    (timedelta, "P999999999W"),
    (timedelta, True),
    (UUID, "x"),
    (UUID, 5),
    (Colour, "green"),
    (Colour, []),
    (Level, True),
    (Level, "1"),
    (list[int], "12"),
    (list[int], ["x"]),
    (dict, []),
    (dict[str, int], {"a": "x"}),
    (Point, {"y": 1}),
    (Point, {"x": 1, "z": 1}),
    (Point, []),
]


@pytest.mark.parametrize(("kind", "given", "expected"), ACCEPTED)
def test_what_is_accepted(kind: Any, given: Any, expected: Any) -> None:
    found = load(Arg(kind, required=True), given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("kind", "given"), REFUSED)
def test_what_is_refused(kind: Any, given: Any) -> None:
    with pytest.raises(ValidationError):
        load(Arg(kind, required=True), given)


def test_optional_arguments() -> None:
    schema = build_schema("t", {"a": Arg(int), "b": Arg(int, default=3), "c": Arg(list[str], default=list)})
    assert schema.load({}) == {"a": None, "b": 3, "c": []}
    assert schema.load({"a": None})["a"] is None
    assert schema.load({})["c"] is not schema.load({})["c"]
    with pytest.raises(ValidationError):
        schema.load({"b": None})


def test_options_hold_for_each_element_of_a_list() -> None:
    arg = Arg(list[str], options=["a", "b"])
    assert load(arg, ["a", "b"]) == ["a", "b"]
    with pytest.raises(ValidationError):
        load(arg, ["a", "c"])


def test_many() -> None:
    assert load(Arg(Point, many=True), [{"x": 1}]) == [{"x": 1, "y": 0}]
    assert load(Arg(list[int], many=True), [[1], [2]]) == [[1], [2]]


def test_validators_are_marshmallows_or_any_callable() -> None:
    def positive(value: int) -> bool:
        return value > 0

    def even(value: int) -> None:
        if value % 2:
            raise ValueError("must be even")

    arg = Arg(int, validator=[validate.Range(max=10), positive, even])
    assert load(arg, 4) == 4
    for bad, message in ((11, "less than"), (-2, "Invalid"), (3, "must be even")):
        with pytest.raises(ValidationError, match=message):
            load(arg, bad)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs", "Cc"])
json_like = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
anything = (
    json_like | st.binary() | st.decimals() | st.datetimes() | st.uuids() | st.builds(object) | st.complex_numbers()
)


def read(kind: Any, value: Any) -> tuple[str, Any]:
    try:
        return "accepted", load(Arg(kind), value)
    except ValidationError as error:
        return "refused", error.messages


@settings(deadline=None)
@given(
    st.integers()
    | st.integers(min_value=2**53 - 9, max_value=2**53 + 9)
    | st.integers(min_value=10**15, max_value=10**40)
)
def test_a_whole_number_and_its_text_are_read_alike(number: int) -> None:
    for kind in (int, float, Decimal):
        assert read(kind, number) == read(kind, str(number))


@settings(deadline=None)
@given(
    st.recursive(
        scalars.filter(lambda v: not isinstance(v, float) or math.isfinite(v)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_json_text_is_ascii_and_comes_back_exactly(value: Any) -> None:
    shown = payload.primitive(value, Limits())
    text = payload.dumps(shown)
    assert text.isascii()
    assert repr(payload.loads(text)) == repr(value) == repr(shown)


@settings(deadline=None)
@given(st.text())
def test_parse_refuses_or_reads_any_text(text: str) -> None:
    try:
        payload.parse(text)
    except ValueError:
        pass


def test_parse_keeps_digits() -> None:
    assert payload.parse("[1e400, 0.1, 0.10000000000000000001, -0, 12345678901234567890123]") == [
        Decimal("1E+400"),
        0.1,
        Decimal("0.10000000000000000001"),
        0,
        12345678901234567890123,
    ]
    assert math.copysign(1, payload.parse("-0")) == -1
    for bad in ("NaN", "Infinity", "[1,]", "", "[" * 100_000):
        with pytest.raises(ValueError):  # noqa: PT011 - the message is the stdlib's or ours
            payload.parse(bad)


def test_a_number_of_thousands_of_digits_is_told_by_field(kept: Bus) -> None:
    """In our words, whether it comes as a number, inside of another value, or as text."""
    digits = "9" * 5_000
    sent = payload.parse(f'{{"i": "{digits}", "s": {digits}, "j": {{"a": [1, {digits}]}}, "d": {digits}}}')
    with pytest.raises(InvalidArguments) as refused:
        kept.execute("call_back", sent)
    long = ["a whole number of more than 1000 digits"]
    assert refused.value.errors == {"i": ["has more digits than can be read"], "s": long, "j": long, "d": long}


@pytest.mark.parametrize("digits", [1_001, 4_300])
@pytest.mark.parametrize(
    "made",
    [
        lambda text: ("i", text),
        lambda text: ("l", ["1", text]),
        lambda text: ("w", text),
        lambda text: ("p", {"x": text}),
    ],
)
def test_what_a_field_makes_of_a_text_is_told_by_field_if_it_is_beyond_the_limits(
    make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch, digits: int, made: Any
) -> None:
    """Whoever's field it is: ours, Marshmallow's, or one inside of another."""
    declared = {"i": Arg(int), "l": Arg(list[int]), "w": Arg(fields.Integer()), "p": Arg(Point)}
    monkeypatch.setattr(CallBack, "arguments", declared)
    name, value = made("9" * digits)
    with pytest.raises(InvalidArguments) as refused:
        make_bus().execute("call_back", {name: value})
    assert refused.value.errors == {name: ["a whole number of more than 1000 digits"]}


@pytest.fixture
def kept(make_bus: BusFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus whose `call_back` takes arguments of several types and does nothing."""
    arguments = {"s": Arg(str), "i": Arg(int), "f": Arg(float), "d": Arg(Decimal), "j": Arg(dict), "l": Arg(list)}
    monkeypatch.setattr(CallBack, "arguments", arguments)
    monkeypatch.setattr(CallBack, "function", lambda handler: dict(handler.args))
    return make_bus(make_application(limits=Limits(arguments_bytes=200_000)))  # type: ignore[return-value]


HOSTILE: list[dict[str, Any]] = [
    {"s": "nul \0 inside"},
    {"s": "\ud800"},
    {"j": {"k": "\udfff"}},
    {"j": {"\0": 1}},
    {"s": "x" * 100_000},
    {"s": "\x01\x7f\u2028"},
    {"f": float("nan")},
    {"f": float("inf")},
    {"j": {"a": float("nan")}},
    {"i": 10**999},
    {"i": 10**5000},
    {"f": 10**400},
    {"d": Decimal("1e1000000")},
    {"d": Decimal("sNaN")},
    {"j": {1: 2}},
    {"l": [object()]},
    {"s": b"bytes"},
    {"l": [[[]]] * 20},
    {"f": -0.0},
    {"i": -0},
    {"j": {"b": 1, "a": 2}},
    {"s": "'; DROP TABLE journal; --"},
    {"s": "%s %(x)s :x ?"},
]


@pytest.mark.parametrize("arguments", HOSTILE)
def test_hostile_values_are_kept_exactly_or_refused_by_field(kept: Bus, arguments: dict[str, Any]) -> None:
    check(kept, arguments)


def check(bus: Bus, arguments: Any) -> None:
    try:
        outcome = bus.execute("call_back", arguments)
    except InvalidArguments as error:
        assert error.errors
        record = bus.journal.get(error.action_id)  # type: ignore[arg-type]
        assert record
        assert record.status == "rejected"
        assert bus.journal.history(record.action_id)[0].kind == "submitted"
    else:
        submitted, came = bus.journal.history(outcome.action_id)
        assert came.status == "succeeded"
        for name, value in arguments.items():
            assert repr(submitted.arguments[name]) == repr(payload.primitive(value, Limits()))


deep: Any = []
for _ in range(2000):
    deep = [deep]


@pytest.mark.parametrize(
    "arguments", [{"s": "x" * 300_000}, {"l": deep}, {"l": [0] * 200_000}, {f"x{i}": "y" * 50 for i in range(9000)}]
)
def test_beyond_the_limits_the_intent_is_kept_as_a_summary(kept: Bus, arguments: dict[str, Any]) -> None:
    with pytest.raises(LimitExceeded) as caught:
        kept.execute("call_back", arguments)
    submitted, came = kept.journal.history(caught.value.action_id)  # type: ignore[arg-type]
    assert set(submitted.arguments) == {"$summary"}
    assert submitted.arguments["$summary"]["count"] == len(arguments)
    assert came.status == "rejected"


@pytest.mark.parametrize("arguments", [[], "x", 7, {1: 2}, {"a": 1, None: 2}])
def test_arguments_that_are_no_object(kept: Bus, arguments: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        kept.execute("call_back", arguments)
    assert "_action" in caught.value.errors


@settings(
    max_examples=500 if TORTURE else 60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from(["s", "i", "f", "d", "j", "l", "zz"]), anything, max_size=4))
def test_no_arguments_are_a_servers_error(kept: Bus, arguments: dict[str, Any]) -> None:
    check(kept, arguments)


@settings(
    max_examples=500 if TORTURE else 40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text() | st.none() | st.integers() | st.binary())
def test_no_name_is_a_servers_error(kept: Bus, name: Any) -> None:
    with pytest.raises(UnknownAction) as caught:
        kept.execute(name, {"a": 1})
    assert kept.journal.get(caught.value.action_id)  # type: ignore[arg-type]


def test_python_values_take_their_usual_text() -> None:
    key = uuid4()
    shown = payload.primitive(
        {
            "u": key,
            "t": datetime(2026, 1, 1, tzinfo=UTC),
            "d": Decimal("1.10"),
            "e": Colour.RED,
            "x": {3, 1},
            "p": (1, 2),
            "l": timedelta(seconds=-1.5),
            "lv": Level.HIGH,
        },
        Limits(),
    )
    assert shown == {
        "u": str(key),
        "t": "2026-01-01T00:00:00+00:00",
        "d": "1.10",
        "e": "red",
        "x": [1, 3],
        "p": [1, 2],
        "l": "-PT1.5S",
        "lv": 2,
    }
