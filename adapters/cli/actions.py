"""`actionbus actions`: the catalogue of what an application can do."""

from __future__ import annotations

import click

from actionbus.adapters.cli.common import Environment, json_option, pass_environment, print_json
from actionbus.adapters.cli.printing import print_table, say
from actionbus.adapters.declared_views import declared, in_words
from actionbus.adapters.json_views import described, options_of, summary, type_name
from actionbus.core.declare.registry import Action


@click.command()
@click.argument("name", required=False)
@json_option
@pass_environment
def actions(env: Environment, name: str | None, as_json: bool) -> None:
    """List the actions, or describe the one called NAME."""
    registry = env.registry
    env.tell_default()
    chosen = [registry.get(name)] if name else list(registry)
    if as_json:
        for action in chosen:
            print_json(described(action) | declared(action))
    elif name:
        _show(chosen[0])
    else:
        print_table(["action", "arguments", "what it does"], [_line(action) for action in chosen], whole=["action"])


def _line(action: Action) -> tuple[str, str, str]:
    names = (f"{name}" if arg.required else f"({name})" for name, arg in action.handler.arguments.items())
    told = summary(action)
    return action.name, " ".join(names), f"(for operators) {told}" if action.for_operators else told


def _show(action: Action) -> None:
    say(f"{action.name} (version {action.handler.version})")
    for told in ("", *summary(action, whole=True).splitlines(), ""):
        say(f"  {told}" if told else "")
    if action.for_operators:
        say("  for operators: not offered over HTTP")
        say("")
    if action.handler.permission:
        say(f"  asks for the permission {action.handler.permission}")
        say("")
    if words := in_words(action):
        width = max(len(name) for name, _ in words)
        for name, told in words:
            say(f"  {name:{width}}  {told}")
        say("")
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
    print_table(["argument", "type", "default", "notes"], rows, whole=["argument"])
