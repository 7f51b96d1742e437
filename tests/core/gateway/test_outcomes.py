"""Whatever an action raises, refuses or is asked: it has an outcome, and the caller gets what was raised."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError
from sqlalchemy.engine import URL

from actionbus import Arg, Bus, InvalidArguments, PermissionDenied, Record
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application

CYCLE: list[Any] = []
CYCLE += [CYCLE, CYCLE]
DEEP: list[Any] = []
for _ in range(3000):
    DEEP = [DEEP]


class Unwalkable(dict[str, Any]):
    """A mapping that does not let anybody walk through it."""

    def items(self) -> Any:
        raise RuntimeError("no items")


class Mute:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


NASTY: dict[str, Any] = {
    "exception": ValueError("bad"),
    "path": Path("/x"),
    "list": ["a", ValueError("b")],
    "by index": {0: ["bad"]},
    "other keys": {1.5: "a", None: "b", (1, 2): "c", "1.5": "d"},
    "the same twice": {1: ["a"], "1": ["b"]},
    "nan": math.nan,
    "cycle": CYCLE,
    "deep": DEEP,
    "surrogate": "\ud800 \0",
    "surrogate key": {"\udfff\0": "x"},
    "long": "x" * 3_000_000,
    "long key": {"x" * 3_000_000: "y"},
    "wide": list(range(300_000)),
    "wide mapping": {number: ["bad"] for number in range(100_000)},
    "huge number": 10**5000,
    "mute": Mute(),
    "unwalkable": Unwalkable(a=1),
    "set": {1, "a", None},
    "bytes": b"\xff",
    "class": Path,
    "none": None,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, databases: dict[str, URL]) -> Iterator[Bus]:
    bus = Bus(make_application(), databases[request.param])
    yield bus
    bus.close()


def raised_by(bus: Bus, run: Callable[[Any], Any], **arguments: Any) -> tuple[BaseException, Record]:
    """What `run` as a handler makes the caller catch, and the outcome's record."""
    CallBack.function = run
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        bus.execute("call_back", arguments)
    return caught.value, outcome_of_last(bus)


def outcome_of_last(bus: Bus) -> Record:
    [record] = bus.journal.tail(1)
    assert record.kind == "outcome"
    return record


def all_texts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from all_texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from all_texts(each)
    else:
        yield value


def assert_readable(errors: Mapping[str, Any]) -> None:
    assert all(type(each) is str for each in all_texts(errors))
    assert len(json.dumps(errors, ensure_ascii=False).encode()) < 60_000


def refusals() -> dict[str, Callable[[Any, Any], Any]]:
    def by_reject(handler: Any, nasty: Any) -> None:
        handler.reject("field", nasty)

    def by_raising(handler: Any, nasty: Any) -> None:
        raise InvalidArguments({"field": nasty})

    def by_changing(handler: Any, nasty: Any) -> None:
        error = InvalidArguments({})
        error.errors["field"] = nasty
        raise error

    def by_marshmallow(handler: Any, nasty: Any) -> None:
        error = ValidationError("x")
        error.messages = {"field": nasty}
        raise error

    return {each.__name__: each for each in (by_reject, by_raising, by_changing, by_marshmallow)}


@pytest.mark.parametrize("nasty", NASTY)
def test_any_refusal_is_told_by_field_and_of_a_bounded_size(shop: Bus, nasty: str) -> None:
    for refuse in refusals().values():
        error, record = raised_by(shop, lambda handler, refuse=refuse: refuse(handler, NASTY[nasty]))  # type: ignore[misc]
        assert isinstance(error, InvalidArguments)
        assert set(error.errors) == {"field"}
        assert_readable(error.errors)
        assert record.action_id == error.action_id
        assert record.status == "rejected"
        assert (record.error or {})["errors"] == error.errors


def test_what_is_too_much_is_counted() -> None:
    errors = InvalidArguments({"field": ["bad"] * 100_000}).errors["field"]
    assert errors[-1] == f"… and {100_001 - len(errors)} more"
    assert 100 < len(errors) < 10_000
    errors = InvalidArguments({f"field {number}": ["bad"] for number in range(100_000)}).errors
    assert errors["…"] == [f"… and {100_001 - len(errors)} more"]


def test_wrong_elements_of_a_list_are_told_by_index(shop: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CallBack, "arguments", {"n": Arg(list[int]), "m": Arg(int, many=True), "by": Arg(dict[str, int])}
    )
    bus = Bus(make_application(), shop.engine)
    with pytest.raises(InvalidArguments) as caught:
        bus.execute("call_back", {"n": [1, "x"], "m": ["y"], "by": {"a": "z"}})
    wrong = ["must be a whole number"]
    assert caught.value.errors == {"n": {"1": wrong}, "m": {"0": wrong}, "by": {"a": {"value": wrong}}}
    assert (outcome_of_last(bus).error or {})["errors"] == caught.value.errors
    with pytest.raises(InvalidArguments) as caught:
        bus.execute("call_back", {"n": ["x"] * 50_000})
    assert_readable(caught.value.errors)


@dataclass(frozen=True)
class Frozen(Exception):
    """Nothing can be set on it."""

    item: str = "beds"


class NoNotes(Exception):
    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")


class ReadOnly(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("read-only")


class ReadOnlyRefusal(InvalidArguments):
    def __setattr__(self, name: str, value: Any) -> None:
        if "errors" in vars(self):
            raise AttributeError("read-only")
        super().__setattr__(name, value)


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoArguments(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no arguments")


class OddOriginal(Exception):
    """Seems to be a driver's error."""

    class orig:  # noqa: N801
        pgcode = object()


class OddErrors(InvalidArguments):
    """Of which nothing can be written down."""

    def __init__(self) -> None:
        Exception.__init__(self)

    @property
    def errors(self) -> Any:  # type: ignore[override]
        return object()


class NoOriginal(Exception):
    @property
    def orig(self) -> Any:
        raise RuntimeError("no original")


def with_odd_notes() -> BaseException:
    error = ValueError("n")
    error.__notes__ = [1, None, "a\0"]
    return error


def in_a_circle() -> BaseException:
    error, other = ValueError("one"), ValueError("other")
    error.__cause__, other.__cause__ = other, error
    return error


RAISED: dict[str, Callable[[], BaseException]] = {
    "frozen": Frozen,
    "no notes": NoNotes,
    "read-only": lambda: ReadOnly("x"),
    "no text": NoText,
    "read-only refusal": lambda: ReadOnlyRefusal({"a": ["b"]}),
    "no arguments": NoArguments,
    "odd original": OddOriginal,
    "no original": NoOriginal,
    "odd notes": with_odd_notes,
    "circle": in_a_circle,
    "huge": lambda: ValueError("x" * 3_000_000),
    "surrogate": lambda: ValueError("\ud800 \0"),
    "odd errors": OddErrors,
    "exit": lambda: SystemExit(2),
    "ctrl-c": KeyboardInterrupt,
    "group": lambda: BaseExceptionGroup("g", [SystemExit()]),
    "generator's": GeneratorExit,
    "stop": StopIteration,
    "memory": MemoryError,
    "recursion": RecursionError,
}


def raising(error: BaseException) -> Callable[[Any], None]:
    def run(handler: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize("kind", RAISED)
def test_any_exception_reaches_the_caller_as_itself_with_an_outcome(shop: Bus, kind: str) -> None:
    expected = RAISED[kind]()
    error, record = raised_by(shop, raising(expected))
    assert error is expected
    assert record.error
    assert record.error["type"].endswith(f":{type(expected).__qualname__}")


@pytest.mark.parametrize("kind", [AttributeError, PermissionDenied, NoNotes])
def test_what_is_raised_after_a_refusal_is_the_outcome_with_a_note_of_it(shop: Bus, kind: type[Exception]) -> None:
    error = kind("'NoneType' has no balance")

    def run(handler: Any) -> None:
        handler.reject("account", "no such account")
        handler.reject(None, "x" * 5_000)
        raise error

    caught, record = raised_by(shop, run)
    assert caught is error
    assert record.status == ("denied" if isinstance(error, PermissionDenied) else "failed")
    [note] = [each for each in error.__notes__ if "rejected" in each]
    assert note.startswith("actionbus: rejected before it was raised: account: no such account; ")
    assert len(note) == 1_000


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: in_itself([]), "the result is nested too deeply, or holds itself"),
        (lambda: functools.reduce(lambda inner, _: [inner], range(100_000), []), "the result is nested too deeply"),
        (object, "the result cannot be kept: a object has no JSON form; return texts"),
        (lambda: {"a": float("nan")}, "the result cannot be kept: nan is not a finite number"),
        (lambda: 10**5000, "the result cannot be kept: a whole number of more than"),
    ],
)
def test_a_result_that_cannot_be_kept_is_told_as_such(shop: Bus, made: Callable[[], Any], told: str) -> None:
    error, record = raised_by(shop, lambda handler: made())
    assert told in str(error)
    assert record.error
    assert told in record.error["message"]


def in_itself(made: list[Any]) -> list[Any]:
    made.append(made)
    return made


def test_the_caller_is_told_the_action_even_where_the_exception_forbids_it(shop: Bus) -> None:
    for error in (Frozen(), NoNotes(), ReadOnly()):
        _, record = raised_by(shop, raising(error))
        assert error.__notes__[-1] == f"actionbus: raised by call_back, action {record.action_id}"


@pytest.mark.parametrize("kind", RAISED)
def test_a_nested_action_that_ends_so_and_is_caught_stays_on_record(shop: Bus, kind: str) -> None:
    expected = RAISED[kind]()

    def run(handler: Any) -> str:
        if handler.args.n:
            raise expected
        try:
            handler.runner.execute("call_back", {"n": 1})
        except BaseException as error:
            assert error is expected
        return "caught"

    CallBack.function = run
    outcome = shop.execute("call_back")
    assert outcome.result == "caught"
    records = [each for each in shop.journal.tail(10) if each.cause_id == outcome.action_id]
    assert [each.kind for each in records] == ["submitted", "outcome"]
    _, alone = raised_by(shop, raising(RAISED[kind]()))
    assert records[1].status == alone.status


def test_an_outcome_that_the_database_does_not_take_is_kept_without_what_is_too_large() -> None:
    bus = Bus(make_application(), "sqlite://")
    bus.journal.create()

    with bus.engine.begin() as connection:  # a limit that a handler sets is put back before the outcome is written
        connection.exec_driver_sql(
            "CREATE TRIGGER small BEFORE INSERT ON journal WHEN length(NEW.calls) > 5000 "
            "BEGIN SELECT zeroblob(2000000000); END"
        )

    def run(handler: Any) -> None:
        handler.mailer.send("bob", "x" * 10_000)

    error, record = raised_by(bus, run)
    assert "too big" in str(error)
    assert (record.status, record.calls) == ("failed", None)
    assert record.error == {
        "type": "sqlalchemy.exc:DataError",
        "message": "(what it says could not be kept: DataError)",
    }
    bus.close()
