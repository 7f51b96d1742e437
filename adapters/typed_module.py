"""Writes the module that tells type checkers what the actions of an application take and give. For `actionbus stubs`.

Where a type is not one that a checker could know, such as a Marshmallow field, it is Any.
"""

from __future__ import annotations

import inspect
import json
import keyword
import typing
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from actionbus.core import Arg
from actionbus.core.declare.registry import Action

_TEXTS: Final = (UUID, Decimal, datetime, date, time, timedelta)
"""Types whose JSON form is a text."""
_PLAIN: Final = (str, int, float, bool)
_HEAD: Final = '''"""What the actions of {name} take and give, told to type checkers. `actionbus stubs` writes it."""

# `stubs --check` wants it as it was written.
# fmt: off
from __future__ import annotations

{imports}

from actionbus import {public}


class _Args(Protocol):
    def keys(self) -> KeysView[str]: ...

    def __getitem__(self, name: str, /) -> Any: ...
'''
_ACTION: Final = '''

class {title}Args(_Args, Protocol):
    """What {name} works with: validated."""
{args}


{given}


class {title}Outcome(Outcome):
    """What came of {name}."""

    result: {result}
'''
_TICKET: Final = '''

class {title}Ticket(Ticket):
    """The way to what comes of {name}, which is queued."""

    def wait(self, timeout: float = 30.0) -> {title}Outcome:
        return cast("{title}Outcome", super().wait(timeout))
'''
_RUNNER: Final = '''

class Runner(Protocol):
    """A runner of these actions."""
{methods}

def typed(runner: ActionRunner) -> Runner:
    """The same runner, whose actions type checkers know."""
    return cast("Runner", runner)
'''
_METHOD: Final = """
{overload}    def execute(
        self, name: Literal["{name}"], arguments: {title}Given, *, idempotency_key: str | None = None
    ) -> {title}Outcome: ...
"""
_QUEUEING: Final = """
{overload}    def execute_async(
        self,
        name: Literal["{name}"],
        arguments: {title}Given,
        *,
        eta: datetime | None = None,
        countdown: float | None = None,
        idempotency_key: str | None = None,
    ) -> {title}Ticket: ...
"""


class _Names:
    """The types that the module names, and where they come from."""

    def __init__(self) -> None:
        self._from: dict[str, set[str]] = {"typing": {"Any", "Literal", "Protocol", "TypedDict", "cast"}}
        self.add("collections.abc", "KeysView")

    def name(self, kind: type) -> str:
        if kind.__module__ == "builtins":
            return kind.__qualname__
        head = kind.__qualname__.partition(".")[0]
        self.add(kind.__module__, head)
        return kind.__qualname__

    def add(self, module: str, name: str) -> None:
        self._from.setdefault(module, set()).add(name)

    def imports(self) -> str:
        return "\n".join(
            f"from {module} import {', '.join(sorted(self._from[module]))}" for module in sorted(self._from)
        )


def typed_module(name: str, actions: Iterable[Action]) -> str:
    """The module's text."""
    chosen = [each for each in actions if not each.for_operators]
    names = _Names()
    queued = [each for each in chosen if not any(arg.sensitive for arg in each.handler.arguments.values())]
    parts = [_action(each, names) for each in chosen]
    parts += [_TICKET.format(title=_title(each), name=each.name) for each in queued]
    if queued:
        names.add("datetime", "datetime")
    methods = _methods(_METHOD, chosen, names) + _methods(_QUEUEING, queued, names)
    runner = _RUNNER.format(methods=methods or "\n    ...\n")
    public = "ActionRunner, Outcome, Ticket" if queued else "ActionRunner, Outcome"
    return _HEAD.format(name=name, imports=names.imports(), public=public) + "".join(parts) + runner


def _methods(form: str, actions: list[Action], names: _Names) -> str:
    if len(actions) > 1:
        names.add("typing", "overload")
    overload = "    @overload\n" if len(actions) > 1 else ""
    return "".join(form.format(name=each.name, title=_title(each), overload=overload) for each in actions)


def _title(action: Action) -> str:
    return "".join(word.capitalize() for word in action.name.split("_"))


def _action(action: Action, names: _Names) -> str:
    declared = action.handler.arguments
    args = [f"    {name}: {_read(arg, names)}" for name, arg in declared.items() if _is_attribute(name)]
    given = {name: _given(arg, names) for name, arg in declared.items()}
    return _ACTION.format(
        title=_title(action),
        name=action.name,
        args="\n".join(["", *args]) if args else "",
        given=_given_class(f"{_title(action)}Given", action.name, given),
        result=_result(action, names),
    )


def _given_class(title: str, action: str, given: dict[str, str]) -> str:
    if not all(map(_is_attribute, given)):
        lines = "".join(f'        "{name}": {told},\n' for name, told in given.items())
        return f'{title} = TypedDict(\n    "{title}",\n    {{\n{lines}    }},\n)'
    lines = "".join(f"\n    {name}: {told}" for name, told in given.items())
    return f'class {title}(TypedDict):\n    """What {action} is given."""\n{lines}'.rstrip()


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _read(arg: Arg, names: _Names) -> str:
    told = _listed(arg, _of(arg, names))
    return f"{told} | None" if arg.nullable and told != "Any" else told


def _given(arg: Arg, names: _Names) -> str:
    kind = _of(arg, names)
    if kind != "Any" and isinstance(arg.type, type) and (issubclass(arg.type, (Enum, *_TEXTS))):
        kind = f"{kind} | str"
    told = _listed(arg, kind)
    told = f"{told} | None" if arg.nullable and told != "Any" else told
    if arg.required:
        return told
    names.add("typing", "NotRequired")
    return f"NotRequired[{told}]"


def _listed(arg: Arg, kind: str) -> str:
    return f"list[{kind}]" if arg.many else kind


def _of(arg: Arg, names: _Names) -> str:
    options = arg.options
    if options and all(type(each) in (str, int, bool) for each in options) and arg.type in _PLAIN:
        return f"Literal[{', '.join(map(_literal, options))}]"
    return _kind(arg.type, names)


def _literal(value: object) -> str:
    # A literal of Python's, whose strings JSON's are; hence not `values.payload`.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _kind(kind: Any, names: _Names) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(_kind(each, names) for each in inner)}]"
    if kind is list:
        return "list[Any]"
    if kind is dict:
        return "dict[str, Any]"
    if kind in (*_PLAIN, *_TEXTS) or (isinstance(kind, type) and issubclass(kind, Enum)):
        return names.name(kind)
    return "Any"


def _result(action: Action, names: _Names) -> str:
    """The JSON form of what `execute` says that it returns."""
    try:
        returned = typing.get_type_hints(inspect.unwrap(action.handler.execute)).get("return", Any)
    except Exception:  # names that are there for type checkers alone, or whatever an annotation does
        return "Any"
    return _json(returned, names)


def _json(kind: Any, names: _Names) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in _PLAIN:
        return names.name(kind)
    if kind is type(None) or kind is None:
        return "None"
    if kind in _TEXTS and kind is not Decimal:
        return "str"
    if origin in (list, tuple) and len(inner) == 1:
        return f"list[{_json(inner[0], names)}]"
    if origin is dict and len(inner) == 2 and inner[0] is str:
        return f"dict[str, {_json(inner[1], names)}]"
    return "dict[str, Any]" if typing.is_typeddict(kind) else "Any"
