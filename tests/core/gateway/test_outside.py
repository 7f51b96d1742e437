"""What a handler gets from an `outside` dependency behaves as the bare object does, whatever type it has."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from actionbus import Application, Bus, outside
from actionbus.core.values import tagged
from actionbus.replay import Replayer
from tests.shop.actions.call_back import CallBack
from tests.shop.app import make_application


class Pages(Iterator[int]):
    """An iterator that can do more."""

    total = 2

    def __init__(self) -> None:
        self._left = [1, 2]

    def __next__(self) -> int:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)


class Counted(Pages):
    """And has a length."""

    def __len__(self) -> int:
        return 2


class Answer:
    """Such as an HTTP client gives: a context manager with words, a truth and items."""

    code = 404

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "404"

    def __iter__(self) -> Iterator[str]:
        return iter(["not", "found"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer)

    def __hash__(self) -> int:
        return 404

    def text(self) -> str:
        return "not found"


class Gone(Exception):
    """What a client raises."""


class Store:
    """The outside world."""

    Gone = Gone
    Refused = type("Refused", (Exception,), {})

    def fail(self) -> None:
        raise Gone("for good")

    def refuse(self) -> None:
        raise self.Refused("no")

    attribute = 3
    folder = Path("/data")
    lines = io.StringIO("a\nb\n")

    def path(self) -> Path:
        return Path("/data/x.txt")

    def file(self) -> Any:
        return io.BytesIO(b"a\nb\n")

    def view(self) -> memoryview:
        return memoryview(b"abc")

    def folder_for_now(self) -> Any:
        return tempfile.TemporaryDirectory()

    def lock(self) -> Any:
        return threading.Lock()

    def generator(self) -> Iterator[int]:
        yield from range(3)

    def pages(self) -> Pages:
        return Pages()

    def counted(self) -> Counted:
        return Counted()

    def rows(self) -> Any:
        return csv.reader(["a,b"])

    @contextlib.contextmanager
    def session(self) -> Iterator[int]:
        yield 5

    def answer(self) -> Answer:
        return Answer()

    def number(self) -> Decimal:
        return Decimal("sNaN")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, key: str) -> str:
        return key * 2

    def __setitem__(self, key: str, value: str) -> None:
        pass

    def __contains__(self, key: object) -> bool:
        return key == "a"

    def __call__(self, number: int) -> int:
        return number + 1

    def __iter__(self) -> Iterator[str]:
        return iter("ab")

    def __truediv__(self, other: str) -> str:
        return f"store/{other}"

    def __rtruediv__(self, other: str) -> str:
        return f"{other}/store"

    def __lt__(self, other: object) -> bool:
        return True


def caught(store: Any) -> list[str]:
    """As clients want it that make their exceptions as they go, such as boto3's."""
    told = []
    for ask in (store.fail, store.refuse):
        try:
            ask()
        except (store.Gone, store.Refused) as error:
            told.append(str(error))
    return told


def entered(value: Any, ask: Callable[[Any], Any]) -> Any:
    with value as found:
        return ask(found)


ASKED: dict[str, Callable[[Any], Any]] = {
    "fspath": lambda s: os.fspath(s.path()),
    "path's text": lambda s: str(s.path()),
    "name": lambda s: s.path().name,
    "relative": lambda s: os.path.relpath(s.path(), "/data"),
    "below": lambda s: str(s.path() / "a"),
    "path equals": lambda s: s.path() == Path("/data/x.txt"),
    "path's hash": lambda s: hash(s.path()) == hash(Path("/data/x.txt")),
    "path is path": lambda s: isinstance(s.path(), os.PathLike),
    "folder": lambda s: str(s.folder / "a"),
    "read": lambda s: s.file().read().decode(),
    "file entered": lambda s: entered(s.file(), lambda f: len(f.read())),
    "lines": lambda s: len(list(s.file())),
    "file for C": lambda s: io.TextIOWrapper(s.file()).read(),
    "file is file": lambda s: isinstance(s.file(), io.IOBase),
    "file's attribute": lambda s: s.lines.getvalue(),
    "view": lambda s: [len(s.view()), s.view()[0], bytes(s.view()).decode()],
    "folder for now": lambda s: entered(s.folder_for_now(), os.path.isdir),
    "lock": lambda s: s.lock().acquire(),
    "lock entered": lambda s: entered(s.lock(), lambda _: 1),
    "generator": lambda s: list(s.generator()),
    "generator closed": lambda s: s.generator().close(),
    "generator sent to": lambda s: s.generator().send(None),
    "next": lambda s: next(s.pages()),
    "pages": lambda s: list(s.pages()),
    "total": lambda s: s.pages().total,
    "counted": lambda s: len(s.counted()),
    "is pages": lambda s: isinstance(s.pages(), Pages),
    "rows": lambda s: list(s.rows()),
    "row's number": lambda s: s.rows().line_num,
    "session": lambda s: entered(s.session(), lambda x: x),
    "truth": lambda s: bool(s.answer()),
    "words": lambda s: f"{s.answer()}",
    "code": lambda s: s.answer().code,
    "answer entered": lambda s: entered(s.answer(), lambda a: [a.text(), a.code, *a]),
    "answer equals": lambda s: s.answer() == Answer(),
    "equals turned": lambda s: Answer() == s.answer(),
    "both": lambda s: s.answer() == s.answer(),
    "in set": lambda s: s.answer() in {Answer()},
    "number": lambda s: str(s.number()),
    "length": lambda s: len(s),
    "item": lambda s: s["x"],
    "set item": lambda s: s.__setitem__("x", "y"),
    "in": lambda s: "a" in s,
    "not in": lambda s: "b" in s,
    "called": lambda s: s(3),
    "iterated": lambda s: list(s),
    "divided": lambda s: s / "a",
    "divides": lambda s: "a" / s,
    "compared": lambda s: s < 3,
    "true": lambda s: bool(s),
    "attribute": lambda s: s.attribute,
    "is store": lambda s: isinstance(s, Store),
    "repr": lambda s: type(repr(s)).__name__,
    "dir": lambda s: dir(s),
    "is no path": lambda s: isinstance(s, os.PathLike),
    "can": lambda s: [callable(s.path), callable(s.answer()), hasattr(s, "__fspath__")],
    "missing": lambda s: getattr(s, "missing", "none"),
    "no addition": lambda s: s + 1,
    "not entered": lambda s: entered(s, str),
    "caught": caught,
    "unhashed": lambda s: isinstance(hash(s), int),
}


@pytest.fixture(scope="module")
def store() -> Iterator[Bus]:
    bus = Bus(application(), "sqlite://")
    bus.journal.create()
    yield bus
    bus.close()


def application() -> Application:
    shop = make_application()
    return make_application(dependencies=dict(shop.dependencies) | {"mailer": outside(Store)})


def answer_of(ask: Callable[[Any], Any], asked: Any) -> Any:
    try:
        return ask(asked)
    except Exception as error:
        return f"raised {type(error).__name__}"


@pytest.mark.parametrize("name", ASKED)
def test_the_handler_sees_what_it_would_see_without_us(store: Bus, name: str) -> None:
    CallBack.function = lambda handler: answer_of(ASKED[name], handler.mailer)
    assert store.execute("call_back").result == answer_of(ASKED[name], Store())


@pytest.mark.parametrize("path", [Path("/x"), Path(), PurePosixPath("a/b"), PureWindowsPath("C:/x")])
def test_paths_come_back_from_the_journal_as_they_were(path: Any) -> None:
    again = tagged.decode(tagged.encode([path]))
    assert again == [path]
    assert type(again[0]) is type(path)


def test_what_was_given_is_played_back() -> None:
    def run(handler: Any) -> list[Any]:
        store, answer = handler.mailer, handler.mailer.answer()
        with answer as again:
            words = [str(again), bool(again), again.code, *again]
        paths = [str(store.path() / "a"), str(store.folder), store.path() == Path("/data/x.txt")]
        return [*words, *paths, len(store), "a" in store, store / "a", list(store.generator()), list(store.pages())]

    CallBack.function = run
    bus = Bus(application(), "sqlite://")
    bus.journal.create()
    result = bus.execute("call_back").result
    with Replayer(bus.journal, application()) as replayer:
        (step,) = replayer.verify()
    assert (step.verdict, step.differences) == ("same", [])
    assert result[:5] == ["404", False, 404, "not", "found"]
    bus.close()


@pytest.mark.parametrize("name", ["file", "view", "generator", "counted"])
def test_what_cannot_be_played_back_says_so(name: str) -> None:
    def run(handler: Any) -> str:
        found = getattr(handler.mailer, name)()
        if name == "generator":
            found.close()
        return str(type(found).__name__)

    CallBack.function = run
    bus = Bus(application(), "sqlite://")
    bus.journal.create()
    bus.execute("call_back")
    with Replayer(bus.journal, application()) as replayer:
        (step,) = replayer.verify()
    assert step.verdict == "unplayable"
    bus.close()
