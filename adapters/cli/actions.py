"""`actionbus actions`: the catalogue of what an application can do."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any

import click

from adapters.cli.common import Environment, json_option, pass_environment, print_json, print_table
from core import Arg
from core.limits import Limits
from core.payload import primitive
from core.registry import Action, Registry


@click.command()
@click.argument("name", required=False)
@json_option
@pass_environment
def actions(env: Environment, name: str | None, as_json: bool) -> None:
    """List the actions, or describe the one called NAME."""
    registry = Registry(env.application)
    chosen = [registry.get(name)] if name else list(registry)
    if as_json:
        for action in chosen:
            print_json(described(action))
    elif name:
        _show(chosen[0])
    else:
        print_table(["action", "arguments", "what it does"], [_line(action) for action in chosen])


def described(action: Action) -> dict[str, Any]:
    """An action as JSON."""
    handler = action.handler
    return {
        "action": action.name,
        "version": handler.version,
        "description": summary(action, whole=True),
        "permission": handler.permission,
        "arguments": [_described_arg(name, arg) for name, arg in handler.arguments.items()],
    }


def summary(action: Action, *, whole: bool = False) -> str:
    """The handler's docstring, or its first line."""
    text = inspect.getdoc(action.handler) or ""
    return text if whole else text.split("\n")[0]


def type_name(arg: Arg) -> str:
    """How an argument's type is shown."""
    name = str(arg.type) if hasattr(arg.type, "__args__") else getattr(arg.type, "__name__", type(arg.type).__name__)
    return f"list[{name}]" if arg.many else name.replace("typing.", "")


def options_of(arg: Arg) -> list[Any] | None:
    """The values that an argument may have, if they are listed."""
    if arg.options is not None:
        return list(arg.options)
    if isinstance(arg.type, type) and issubclass(arg.type, Enum):
        return [member.value for member in arg.type]
    return None


def _described_arg(name: str, arg: Arg) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "type": type_name(arg), "required": arg.required}
    if arg.has_default:
        made = arg.default() if callable(arg.default) else arg.default
        told["default"] = primitive(made, Limits()) if not callable(arg.default) else None
    if (options := options_of(arg)) is not None:
        told["options"] = primitive(options, Limits())
    return told | {"sensitive": arg.sensitive, "personal": arg.personal, "description": arg.description}


def _line(action: Action) -> tuple[str, str, str]:
    names = (f"{name}" if arg.required else f"({name})" for name, arg in action.handler.arguments.items())
    return action.name, " ".join(names), summary(action)


def _show(action: Action) -> None:
    click.echo(f"{action.name} (version {action.handler.version})\n\n  {summary(action, whole=True)}\n")
    if action.handler.permission:
        click.echo(f"  asks for the permission {action.handler.permission}\n")
    rows = []
    for name, arg in action.handler.arguments.items():
        options = options_of(arg)
        default = "" if not arg.has_default else "made anew" if callable(arg.default) else repr(arg.default)
        notes = ", ".join(
            filter(
                None, [arg.description, f"one of {options}" if options else "", "sensitive" if arg.sensitive else ""]
            )
        )
        rows.append((name, type_name(arg), "required" if arg.required else default, notes))
    print_table(["argument", "type", "default", "notes"], rows)
