"""`actionbus run`: one action from options, or many from JSON lines. Options come from the action's Args."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, get_origin

import click
from marshmallow import Schema

from adapters.cli.actions import options_of, summary, type_name
from adapters.cli.common import (
    EXIT_CODES,
    FAILED,
    REJECTED,
    SUCCEEDED,
    USAGE,
    Environment,
    console,
    fail,
    first_line,
    print_json,
    safe,
)
from adapters.cli.progress import progress
from adapters.cli.signals import SigintGuard
from core import ActionBusError, ActionRunner, Arg, InvalidArguments, JournalUnavailable, Outcome, UnknownAction
from core.errors import OutcomeUnknown
from core.execution import as_ours, status_of
from core.payload import dumps, parse
from core.registry import Action, Registry

_OWN: Final = {"actor", "arguments", "idempotency_key", "json", "help"}
_LISTED = 20


class ActionCommands(click.Group):
    """A command per action of the application."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [action.name for action in Registry(ctx.find_object(Environment).application)]  # type: ignore[union-attr]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        environment = ctx.find_object(Environment)
        assert environment is not None
        try:
            action = Registry(environment.application).get(cmd_name)
        except UnknownAction as error:
            raise click.UsageError(str(error)) from None
        return _command(action)


@click.group(cls=ActionCommands, subcommand_metavar="ACTION [OPTIONS]")
def run() -> None:
    """Run an action; `actionbus run ACTION --help` shows its options.

    \b
    Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 3 rejected, 4 denied, 5 database unavailable.
    """


def _command(action: Action) -> click.Command:
    options = [_option(name, arg) for name, arg in action.handler.arguments.items()]
    return click.Command(
        action.name,
        params=[*options, *_own_options()],
        callback=click.pass_context(lambda context, **values: _run(context, action, values)),
        help=summary(action, whole=True),
        short_help=summary(action),
    )


def _own_options() -> list[click.Parameter]:
    return [
        click.Option(["own_actor", "--actor"], envvar="ACTIONBUS_ACTOR", show_envvar=True, help="Who acts."),
        click.Option(
            ["own_arguments", "--arguments"],
            metavar="JSON|@FILE|-",
            help="All arguments as one JSON object; or @FILE or - (standard input) with one object per line.",
        ),
        click.Option(["own_idempotency_key", "--idempotency-key"], metavar="KEY", help="Take effect once per key."),
        click.Option(["own_json", "--json"], is_flag=True, help="Print outcomes as JSON, one per line."),
    ]


def _option(name: str, arg: Arg) -> click.Option:
    flag = f"--{'arg-' if name in _OWN else ''}{name.replace('_', '-')}"
    notes = [arg.description] if arg.description else []
    if (options := options_of(arg)) is not None:
        notes.append(f"one of {', '.join(map(str, options))}")
    if arg.has_default and not callable(arg.default):
        notes.append(f"{arg.default!r} if left out")
    notes += ["required"] if arg.required else []
    return click.Option(
        [f"arg_{name}", flag],
        metavar="JSON" if _is_json(arg) else type_name(arg).upper(),
        multiple=_is_list(arg),
        help="; ".join(notes) + ("; may be given several times" if _is_list(arg) else ""),
    )


def _is_list(arg: Arg) -> bool:
    return arg.many or arg.type is list or get_origin(arg.type) is list


def _is_json(arg: Arg) -> bool:
    is_schema = isinstance(arg.type, Schema) or (isinstance(arg.type, type) and issubclass(arg.type, Schema))
    return is_schema or arg.type is dict or get_origin(arg.type) is dict


def _run(context: click.Context, action: Action, values: dict[str, Any]) -> None:
    environment = context.find_object(Environment)
    assert environment is not None
    bus = environment.bus
    bus.journal.require()
    try:
        runner = bus.runner(values["own_actor"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--actor") from None
    source, as_json = values["own_arguments"], values["own_json"]
    given = {name: values[f"arg_{name}"] for name in action.handler.arguments}
    if source is not None and (source == "-" or source.startswith("@")):
        raise SystemExit(_run_lines(runner, action, source, as_json))
    arguments = _from_options(action, given) | (_from_json(source) if source is not None else {})
    raise SystemExit(_run_one(runner, action.name, arguments, values["own_idempotency_key"], as_json))


def _from_options(action: Action, given: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value == ():
            continue
        arg = action.handler.arguments[name]
        if _is_json(arg):
            read = [_from_json(each, name) for each in (value if _is_list(arg) else (value,))]
            arguments[name] = read if _is_list(arg) else read[0]
        else:
            arguments[name] = list(value) if _is_list(arg) else value
    return arguments


def _from_json(text: str, name: str = "arguments") -> Any:
    try:
        read = parse(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=f"--{name}") from None
    if name == "arguments" and not isinstance(read, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--arguments")
    return read


def _run_one(runner: ActionRunner, name: str, arguments: dict[str, Any], key: str | None, as_json: bool) -> int:
    try:
        outcome = runner.execute(name, arguments, idempotency_key=key)
    except (JournalUnavailable, OutcomeUnknown):
        raise
    except Exception as error:
        status = status_of(as_ours(error))
        if as_json:
            print_json({"status": status, **_told(error)})
        else:
            _explain(error, status)
        return EXIT_CODES[status]
    if as_json:
        print_json(_shown(outcome))
    else:
        again = " (repeated)" if outcome.repeated else ""
        click.echo(f"{outcome.status}{again}  action {outcome.action_id}  position {outcome.position}")
        click.echo(dumps(outcome.result))
    return SUCCEEDED


def _shown(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "action_id": outcome.action_id,
        "position": outcome.position,
        "repeated": outcome.repeated,
        "result": outcome.result,
    }


def _told(error: Exception) -> dict[str, Any]:
    told: dict[str, Any] = {"error": type(error).__name__, "message": first_line(error)}
    if isinstance(error, ActionBusError):
        told["action_id"] = error.action_id
    if isinstance(error, InvalidArguments):
        told["errors"] = error.errors
    return told


def _explain(error: Exception, status: str) -> None:
    out = console(stderr=True)
    if isinstance(error, InvalidArguments):
        out.print(f"[yellow]{status}[/]")
        for field, messages in error.errors.items():
            shown = " ".join(map(str, messages)) if isinstance(messages, list) else dumps(messages)
            out.print(f"  {safe(str(field))}: {safe(shown)}")
    else:
        out.print(f"[red]{status}[/]: {safe(type(error).__name__)}: {safe(first_line(error))}")
    action_id = getattr(error, "action_id", None) or next(
        (note.rsplit(" ", 1)[-1] for note in getattr(error, "__notes__", []) if note.startswith("actionbus:")), None
    )
    if action_id:
        out.print(f"  see: actionbus show {action_id}")


def _run_lines(runner: ActionRunner, action: Action, source: str, as_json: bool) -> int:
    counts: dict[str, int] = {}
    listed: list[str] = []
    done = 0
    guard = SigintGuard()
    try:
        with guard, _lines(source) as (lines, total), progress(f"running {action.name}", total) as advance:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    advance()
                    continue
                with guard.uninterrupted():
                    status, message = _run_line(runner, action.name, line, number, as_json)
                    done = number
                counts[status] = counts.get(status, 0) + 1
                if message and len(listed) < _LISTED:
                    listed.append(f"line {number}: {status}: {message}")
                advance()
    except KeyboardInterrupt:
        _report(counts, listed)
        raise fail(
            f"interrupted after line {done}; everything up to it is done, nothing of later lines is", 130
        ) from None
    _report(counts, listed)
    return (
        SUCCEEDED if set(counts) <= {"succeeded"} else REJECTED if set(counts) <= {"succeeded", "rejected"} else FAILED
    )


def _run_line(runner: ActionRunner, name: str, line: str, number: int, as_json: bool) -> tuple[str, str]:
    try:
        arguments = parse(line)
    except ValueError as error:
        if as_json:
            print_json({"line": number, "status": "rejected", "error": "NotJson", "message": str(error)})
        return "rejected", f"not JSON: {error}"
    try:
        outcome = runner.execute(name, arguments)
    except (JournalUnavailable, OutcomeUnknown):
        raise
    except Exception as error:
        status = status_of(as_ours(error))
        if as_json:
            print_json({"line": number, "status": status, **_told(error)})
        return status, first_line(error)
    if as_json:
        print_json({"line": number, **_shown(outcome)})
    return outcome.status, ""


def _report(counts: dict[str, int], listed: list[str]) -> None:
    out = console(stderr=True)
    for line in listed:
        out.print(safe(line))
    unlisted = sum(n for status, n in counts.items() if status != "succeeded") - len(listed)
    if unlisted > 0:
        out.print(f"… and {unlisted} more; `actionbus log --status rejected` (or denied, failed) lists all")
    out.print(", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing to do")


@contextmanager
def _lines(source: str) -> Iterator[tuple[Iterable[str], int | None]]:
    """The lines, and how many there are if that can be known."""
    if source == "-":
        yield sys.stdin, None
        return
    path = Path(source[1:])
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            total = sum(1 for _ in file)
            file.seek(0)
            yield file, total
    except OSError as error:
        raise fail(f"{path} cannot be read: {error.strerror}", USAGE) from None
