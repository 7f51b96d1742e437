"""`actionbus run`: one action from options, or many from JSON lines. Options come from the action's Args."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, get_origin

import click
from marshmallow import Schema

from actionbus.adapters.cli import preview_output
from actionbus.adapters.cli.common import environment_of, is_operator, print_json
from actionbus.adapters.cli.lines import Each, LinesRun, Result, in_chunks, named
from actionbus.adapters.cli.printing import (
    EXIT_CODES,
    INTERRUPTED,
    SUCCEEDED,
    USAGE,
    fail,
    first_line,
    print_no_more,
    say,
)
from actionbus.adapters.cli.run_options import flag_of, options_of_lines, own_options
from actionbus.adapters.json_views import described_outcome, described_ticket, options_of, summary, type_name
from actionbus.adapters.safe_text import joined
from actionbus.core import (
    ActionBusError,
    ActionRunner,
    Arg,
    Bus,
    ConfigurationError,
    InvalidArguments,
    JournalUnavailable,
    Outcome,
    Ticket,
    UnknownAction,
)
from actionbus.core.declare.registry import Action, Registry
from actionbus.core.errors import OutcomeUnknown
from actionbus.core.gateway.failures import as_ours, status_of
from actionbus.core.gateway.ticket import due_at
from actionbus.core.values.payload import dumps, parse

_Caller = Callable[[str, Any], Outcome | Ticket]


class ActionCommands(click.Group):
    """A command per action of the application. While a shell completes a line, `run_completion` stands for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [action.name for action in _registry(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            return _command(_registry(ctx).get(cmd_name))
        except UnknownAction as error:
            raise click.UsageError(str(error)) from None


def _registry(context: click.Context) -> Registry:
    return Registry(environment_of(context).application)


@click.group(cls=ActionCommands, subcommand_metavar="ACTION [OPTIONS]", invoke_without_command=True)
@options_of_lines
@click.pass_context
def run(context: click.Context, lines: str | None, actor: str | None, as_json: bool) -> None:
    """Run an action; `actionbus run ACTION --help` shows its options.

    \b
    Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 3 rejected, 4 denied, 5 database unavailable.
    """
    if context.invoked_subcommand is not None:
        if lines is not None:
            raise click.UsageError("--lines names the actions itself; leave ACTION out")
        return
    if lines is None:
        click.echo(context.get_help())
        raise SystemExit(USAGE)
    if lines != "-" and not lines.startswith("@"):
        raise click.BadParameter("must be @FILE or - (standard input)", param_hint="--lines")
    runner = _runner(environment_of(context).bus, actor)
    raise SystemExit(LinesRun(as_json=as_json).run("actions", lines, in_chunks(runner), named))


def _runner(bus: Bus, actor: str | None) -> ActionRunner:
    bus.journal.require()
    try:
        return bus.runner(actor, operator=is_operator())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--actor") from None


def _command(action: Action) -> click.Command:
    options = [_option(name, arg) for name, arg in action.handler.arguments.items()]
    return click.Command(
        action.name,
        params=[*options, *own_options()],
        callback=click.pass_context(lambda context, **values: _run(context, action, values)),
        help=summary(action, whole=True),
        short_help=summary(action),
    )


def _option(name: str, arg: Arg) -> click.Option:
    notes = [arg.description] if arg.description else []
    if (options := options_of(arg)) is not None:
        notes.append(f"one of {', '.join(map(str, options))}")
    if arg.has_default and not callable(arg.default):
        notes.append(f"{arg.default!r} if left out")
    notes += ["required"] if arg.required else []
    return click.Option(
        [f"arg_{name}", flag_of(name)],
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
    bus = environment_of(context).bus
    runner = _runner(bus, values["own_actor"])
    source, as_json = values["own_arguments"], values["own_json"]
    given = {name: values[f"arg_{name}"] for name in action.handler.arguments}
    if values["own_preview"]:
        preview_output.refuse_together(values)
    call = _caller_of(runner, values)
    if source is not None and (source == "-" or source.startswith("@")):
        key = values["own_idempotency_key"]
        each = in_chunks(runner) if _is_now(values) else _one_by_one(call)
        asked = LinesRun(as_json=as_json)
        raise SystemExit(asked.run(action.name, source, each, lambda arguments: (action.name, arguments, key)))
    arguments = _from_options(action, given) | (_from_json(source) if source is not None else {})
    arguments |= _asked_for(action, arguments)
    if values["own_preview"]:
        raise SystemExit(preview_output.show(runner, action.name, arguments, as_json=as_json))
    try:
        raise SystemExit(_run_one(call, action.name, arguments, as_json))
    except KeyboardInterrupt as error:
        raise fail(_interrupted(bus, error), INTERRUPTED) from None


def _interrupted(bus: Bus, error: KeyboardInterrupt) -> str:
    action_id = _action_of(error)
    outcome = bus.journal.outcome(action_id) if action_id else None
    if outcome is None:
        return "interrupted; `actionbus log --submitted` shows what was asked, if anything was"
    done = "had succeeded already" if outcome.status == "succeeded" else "changed nothing in the database"
    return f"interrupted; the action {action_id} {done}: actionbus show {action_id}"


def _is_now(values: dict[str, Any]) -> bool:
    """Whether actions are run now, and not queued."""
    return not (values["own_async"] or values["own_eta"] or values["own_countdown"] is not None)


def _caller_of(runner: ActionRunner, values: dict[str, Any]) -> _Caller:
    """What runs or queues an action, as the options say."""
    key, eta, countdown = values["own_idempotency_key"], values["own_eta"], values["own_countdown"]
    if _is_now(values):
        return partial(runner.execute, idempotency_key=key)
    try:
        moment = datetime.fromisoformat(eta) if eta else None
    except ValueError:
        told = f"{eta!r} is no time in ISO 8601, such as 2026-12-24T19:30+01:00"
        raise click.BadParameter(told, param_hint="--eta") from None
    try:
        due_at(moment, countdown)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--eta / --countdown") from None
    return partial(runner.execute_async, idempotency_key=key, eta=moment, countdown=countdown)


def _asked_for(action: Action, given: dict[str, Any]) -> dict[str, str]:
    """Secrets that were left out, asked for at a terminal without showing them: a command line is no place for them."""
    missing = [name for name, arg in action.handler.arguments.items() if arg.sensitive and arg.required]
    missing = [name for name in missing if name not in given]
    if not missing or not sys.stdin.isatty():
        return {}
    return {name: click.prompt(name.replace("_", " "), hide_input=True, err=True) for name in missing}


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


def _run_one(call: _Caller, name: str, arguments: dict[str, Any], as_json: bool) -> int:
    try:
        outcome = call(name, arguments)
    except (JournalUnavailable, OutcomeUnknown, ConfigurationError):
        raise
    except Exception as error:
        status = status_of(as_ours(error))
        if as_json:
            print_json({"status": status, **_told(error)})
        else:
            _explain(error, status)
        return EXIT_CODES[status]
    try:
        _print_outcome(outcome, as_json)
    except OSError as error:
        what = "queued" if isinstance(outcome, Ticket) else outcome.status
        raise _unprinted(f"the action {outcome.action_id} was {what}", error, SUCCEEDED) from None
    return SUCCEEDED


def _unprinted(done: str, error: OSError, code: int) -> SystemExit:
    """A disk that is full, or a reader that is gone, undoes nothing: the exit code stays that of what was done."""
    print_no_more()
    return fail(f"{done}, but this could not be printed: {error.strerror}", code)


def _print_outcome(outcome: Outcome | Ticket, as_json: bool) -> None:
    if as_json:
        print_json(_shown(outcome))
    elif isinstance(outcome, Ticket):
        say(f"queued  action {outcome.action_id}  due {outcome.due_at.isoformat(timespec='seconds')}")
        if outcome.problem:
            say(("it waits:", "yellow"), f" {joined(outcome.problem)}; a worker sends it later", stderr=True)
    else:
        again = " (repeated)" if outcome.repeated else ""
        say(f"{outcome.status}{again}  action {outcome.action_id}  position {outcome.position}")
        print_json(outcome.result)


def _shown(outcome: Outcome | Ticket) -> dict[str, Any]:
    return described_ticket(outcome) if isinstance(outcome, Ticket) else described_outcome(outcome)


def _told(error: Exception) -> dict[str, Any]:
    told: dict[str, Any] = {"error": type(error).__name__, "message": first_line(error)}
    if isinstance(error, ActionBusError):
        told["action_id"] = error.action_id
    if isinstance(error, InvalidArguments):
        told["errors"] = error.errors
    return told


def _explain(error: Exception, status: str) -> None:
    if isinstance(error, InvalidArguments):
        say((status, "yellow"), stderr=True)
        for field, messages in error.errors.items():
            shown = " ".join(map(str, messages)) if isinstance(messages, list) else dumps(messages)
            say(f"  {field}: {shown}", stderr=True)
    else:
        say((status, "red"), f": {type(error).__name__}: {first_line(error)}", stderr=True)
    if action_id := _action_of(error):
        say(f"  see: actionbus show {action_id}", stderr=True)


def _action_of(error: BaseException) -> Any:
    """The id of the action that raised it, or None."""
    return getattr(error, "action_id", None) or next(
        (note.rsplit(" ", 1)[-1] for note in getattr(error, "__notes__", []) if note.startswith("actionbus:")), None
    )


def _one_by_one(call: _Caller) -> Each:
    """What queues actions, each by itself."""
    return lambda asked: (_result_of(call, name, arguments) for name, arguments, _ in filter(None, asked))


def _result_of(call: _Caller, name: str, arguments: Any) -> Result:
    try:
        outcome = call(name, arguments)
    except (JournalUnavailable, OutcomeUnknown, ConfigurationError):
        raise
    except Exception as error:
        status = status_of(as_ours(error))
        return status, first_line(error), {"status": status, **_told(error)}
    return "queued" if isinstance(outcome, Ticket) else outcome.status, "", _shown(outcome)
