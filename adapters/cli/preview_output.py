"""How a preview looks in a terminal: `actionbus run ACTION --preview`. Used by `adapters.cli.run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from actionbus.adapters.cli.common import print_json
from actionbus.adapters.cli.history_output import change_json, note, say_change
from actionbus.adapters.cli.printing import EXIT_CODES, FAILED, say
from actionbus.core import ActionRunner, Preview
from actionbus.core.values.change import Change

_NOT_WITH = ("async", "eta", "countdown", "idempotency_key")


def refuse_together(values: Mapping[str, Any]) -> None:
    """Raise BadParameter for options that say how an action is kept: nothing of a preview is."""
    if given := [name for name in _NOT_WITH if values[f"own_{name}"]]:
        raise click.BadParameter(f"not with --{given[0].replace('_', '-')}", param_hint="--preview")
    source = values["own_arguments"] or ""
    if source == "-" or source.startswith("@"):
        raise click.BadParameter("previews one action; give its arguments as one JSON object", param_hint="--preview")


def show(runner: ActionRunner, name: str, arguments: Mapping[str, Any], *, as_json: bool) -> int:
    """Preview an action and show what came of it; the exit code is the one that running it would have."""
    seen = runner.preview(name, arguments)
    (_print_json if as_json else _print)(seen)
    for table in seen.unrecorded:
        note(f"changes of {table} are not recorded, and so not shown; `actionbus history install` begins that")
    if seen.outcome.status == "succeeded" and seen.refused:
        return FAILED
    return EXIT_CODES[seen.outcome.status]


def _print(seen: Preview) -> None:
    outcome = seen.outcome
    colour = "green" if outcome.status == "succeeded" else "red"
    say(("preview:", "bold"), f" {outcome.action} would have ", (outcome.status, colour), "; it was rolled back")
    if outcome.error:
        told = outcome.error.get("errors") or {outcome.error["type"].rpartition(":")[2]: outcome.error["message"]}
        for field, messages in told.items():
            say(f"  {field}: {' '.join(map(str, messages)) if isinstance(messages, list) else messages}")
    else:
        print_json(outcome.result)
    for each in seen.changes:
        of = each.who.source.action if each.who.source else ""
        if of != outcome.action:
            say((f"  in {of}:", "dim"))
        say_change(each.table, each.key, each.before, each.after)
    for name, arguments in seen.queued:
        say(f"  would queue {name} ", (str(dict(arguments)), "dim"))
    for call in seen.refused:
        note(f"it asks the outside world, which a preview does not: {call}; what it really does may be something else")


def _print_json(seen: Preview) -> None:
    outcome = seen.outcome
    told: dict[str, Any] = {"preview": True, "action": outcome.action, "status": outcome.status}
    told |= {"result": outcome.result} if outcome.error is None else {"error": _error(outcome.error)}
    told["changes"] = [_change(each) for each in seen.changes]
    told["queued"] = [{"action": name, "arguments": dict(arguments)} for name, arguments in seen.queued]
    print_json(told | {"refused": seen.refused, "unrecorded": seen.unrecorded})


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in error.items() if name != "traceback"}


def _change(each: Change) -> dict[str, Any]:
    return change_json(each) | {"action": each.who.source.action if each.who.source else None}
