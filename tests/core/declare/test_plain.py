"""Arguments that are taken as they are: whatever the schema would say of them, the quick way says too, or asks it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from actionbus import Arg
from actionbus.core.declare.arg import build_schema
from actionbus.core.declare.plain import plain_of
from actionbus.core.values.payload import same

NOT_DECLARED = "another"
_KINDS = st.sampled_from([str, int, float, bool])
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(["1", "1.5", "true"]),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)
_DEFAULTS = {str: "text", int: 3, float: 0.5, bool: True}


@st.composite
def arguments(draw: st.DrawFn) -> Arg:
    """An Arg of a plain type, in each way in which one can be left out."""
    kind = draw(_KINDS)
    match draw(st.sampled_from(["required", "optional", "none", "default", "made"])):
        case "required":
            return Arg(kind, required=True)
        case "optional":
            return Arg(kind)
        case "none":
            return Arg(kind, default=None)
        case "default":
            return Arg(kind, default=_DEFAULTS[kind])
    return Arg(kind, default=lambda: _DEFAULTS[kind])


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Arg], dict[str, Any]]:
    """Declared arguments, and some that are given: mostly such as were declared."""
    declared = draw(st.dictionaries(st.sampled_from("abcd"), arguments(), max_size=4))
    values: dict[str, Any] = {}
    for name, arg in declared.items():
        fitting = st.from_type(arg.type).filter(lambda each: each == each)
        if draw(st.integers(0, 3)):
            values[name] = draw(st.one_of(fitting, fitting, fitting, _VALUES))
    if not draw(st.integers(0, 9)):
        values[NOT_DECLARED] = draw(_VALUES)
    return declared, dict(draw(st.permutations(list(values.items()))))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked())
@example(({"a": Arg(int, required=True)}, {"a": True}))
@example(({"a": Arg(float)}, {"a": 1}))
@example(({"a": Arg(int), "b": Arg(str)}, {"b": "x", "a": 1}))
@example(({"a": Arg(int)}, {NOT_DECLARED: 1}))
@example(({"a": Arg(int, default=3)}, {"a": None}))
def test_what_is_taken_as_it_is_is_what_the_schema_loads(case: tuple[dict[str, Arg], dict[str, Any]]) -> None:
    declared, values = case
    schema = build_schema("case", declared)
    plain = plain_of(schema)
    assert plain is not None
    quick = plain.load(values)
    try:
        judged = schema.load(values)
    except ValidationError:
        judged = None
    if quick is not None:
        assert judged is not None
        assert list(quick) == list(judged)  # the order is what the journal keeps
        assert same(quick, judged)


def test_what_is_of_the_very_type_does_not_go_through_the_schema() -> None:
    plain = plain_of(build_schema("case", {"a": Arg(int, required=True), "b": Arg(str), "c": Arg(bool, default=True)}))
    assert plain is not None
    assert plain.load({"b": "x", "a": 1}) == {"a": 1, "b": "x", "c": True}
    assert plain.load({"a": "1"}) is None


def test_what_is_checked_or_converted_is_the_schemas_to_judge() -> None:
    for arg in (
        Arg(int, validator=lambda value: value > 0),
        Arg(str, options=["x"]),
        Arg(int, many=True),
        Arg(dict),
    ):
        assert plain_of(build_schema("case", {"a": arg})) is None
