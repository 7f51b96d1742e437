"""The module for type checkers: of any declaration it is Python, and it is known when it has grown old.

That checkers understand it is seen in tests/test_structure.py.
"""

from __future__ import annotations

import enum
import subprocess
import sys
import typing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from actionbus import ActionHandler, Application, Arg, Ticket
from actionbus.adapters.typed_module import typed_module
from actionbus.core.declare.registry import Registry
from tests.helpers import Run


class Colour(enum.Enum):
    """Of this module."""

    RED = "red"


class Every(ActionHandler):
    """Every kind of declaration."""

    arguments = {
        "id": Arg(UUID, required=True),
        "at": Arg(datetime),
        "price": Arg(Decimal, default=Decimal(1)),
        "colour": Arg(Colour, many=True),
        "size": Arg(str, options=['s"', "m"], default="m"),
        "tags": Arg(list[str], default=list),
        "about": Arg(dict[str, int], required=True),
        "any": Arg(fields.Url()),
        "schema": Arg(Schema),
        "number": Arg(int, options=[1, 2], required=True),
    }

    def execute(self) -> dict[str, list[UUID]]:
        raise NotImplementedError


class Odd(ActionHandler):
    """Names that are no attributes."""

    arguments = {"from": Arg(required=True), "to": Arg()}

    def execute(self) -> NoSuchName:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError


class Actions:
    """Stands for an application with actions that have no files."""

    def __init__(self, *handlers: type[ActionHandler]) -> None:
        self.handlers = handlers

    def __iter__(self) -> Any:
        return (
            type("A", (), {"name": each.__name__.lower(), "handler": each, "for_operators": False})()
            for each in self.handlers
        )


def module_of(*handlers: type[ActionHandler]) -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "made"}
    exec(compile(typed_module("shop", Actions(*handlers)), "made", "exec"), made)
    return made


def test_what_is_declared_is_what_checkers_are_told() -> None:
    made = module_of(Every, Odd)
    given = typing.get_type_hints(made["EveryGiven"], made, include_extras=True)
    assert given["id"] == UUID | str
    assert given["at"] == typing.NotRequired[datetime | str | None]
    assert given["colour"] == typing.NotRequired[list[Colour | str] | None]
    assert given["number"] == typing.Literal[1, 2]
    assert given["size"] == typing.NotRequired[typing.Literal['s"', "m"]]
    assert given["any"] == given["schema"] == typing.NotRequired[Any]
    read = typing.get_type_hints(made["EveryArgs"], made)
    assert read["id"] is UUID
    assert read["at"] == datetime | None
    assert read["about"] == dict[str, int]
    assert made["EveryOutcome"].__annotations__ == {"result": "dict[str, list[str]]"}
    assert made["OddGiven"].__required_keys__ == {"from"}
    assert "from" not in typing.get_type_hints(made["OddArgs"], made), "no attribute can have that name"
    assert made["OddOutcome"].__annotations__ == {"result": "Any"}


class SignIn(ActionHandler):
    """Takes a secret."""

    arguments = {"password": Arg(str, required=True, sensitive=True)}

    def execute(self) -> None:
        raise NotImplementedError


def test_what_can_be_queued_has_a_ticket_and_what_takes_secrets_has_none() -> None:
    made = module_of(Every, SignIn)
    assert issubclass(made["EveryTicket"], Ticket)
    assert made["EveryTicket"].wait.__annotations__["return"] == "EveryOutcome"
    assert "every" in made["Runner"].execute_async.__annotations__["name"]
    assert "SignInTicket" not in made
    assert not hasattr(module_of(SignIn)["Runner"], "execute_async")


def test_an_application_without_actions_has_a_module_too() -> None:
    assert module_of()["typed"](1) == 1
    assert list(Registry(Application("empty", actions=[])).everyday()) == []


def test_a_formatter_of_any_width_leaves_it_as_it_is(tmp_path: Path) -> None:
    """Else it is old, by `stubs --check`, as soon as the application's own code is formatted."""
    written = typed_module("shop", Actions(Every, Odd))  # type: ignore[arg-type]
    (tmp_path / "typed.py").write_text(written)
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "60", str(tmp_path / "typed.py")]
    subprocess.run(ruff, check=True, capture_output=True)
    assert (tmp_path / "typed.py").read_text() == written


def test_an_old_module_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "typed.py"
    assert "cannot be read" in run("stubs", "--check", str(file), code=2).stderr
    file.write_text(run("stubs").stdout)
    run("stubs", "--check", str(file))
    file.write_text(file.read_text().replace("OpenAccountArgs", "OldArgs"))
    assert f"`actionbus stubs > {file}` renews it" in run("stubs", "--check", str(file), code=1).stderr
