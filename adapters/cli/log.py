"""`actionbus log` and `actionbus show`: the journal, read by people and programs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from actionbus.adapters.cli.common import (
    USAGE,
    Environment,
    MomentType,
    Part,
    fail,
    json_option,
    line,
    pass_environment,
    position_or_id,
    print_json,
    say,
    say_short,
)
from actionbus.core import Bus, JournalFilter, Record
from actionbus.core.values.payload import dumps
from actionbus.core.values.record import STATUSES

COLOURS = {"succeeded": "green", "rejected": "yellow", "denied": "magenta", "failed": "red", "interrupted": "red"}
_POLL_S = 0.3
_SHOWN_APART = frozenset({"position", "kind", "status", "recorded_at", "calls", "format"})


@click.command()
@click.option("--action", metavar="NAME", help="Only this action.")
@click.option("--actor", metavar="ACTOR", help="Only actions of this actor.")
@click.option("--status", type=click.Choice(STATUSES), help="Only outcomes with this status.")
@click.option("--since", type=MomentType(), metavar="TIME", help="From this time on: ISO 8601, or an age such as 2h.")
@click.option("--until", type=MomentType(), metavar="TIME", help="Before this time.")
@click.option("--correlation", metavar="ID", help="Only actions with this correlation id.")
@click.option("--cause", type=click.UUID, metavar="ACTION_ID", help="Only actions caused by this one.")
@click.option("--touching", metavar="TABLE[:KEY]", help="Only outcomes that wrote to this table or row.")
@click.option("--after", type=int, default=None, metavar="POSITION", help="Only records beyond this position.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=None, help="At most so many; 20 unless filters are given."
)
@click.option("--submitted", is_flag=True, help="Show submitted records too, not outcomes alone.")
@click.option("--bypass", is_flag=True, help="Only what was written past the gateway.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing records as they come, until Ctrl-C.")
@json_option
@pass_environment
def log(env: Environment, /, follow: bool, as_json: bool, **options: Any) -> None:
    """Show what was done, oldest first; the last 20 outcomes unless you ask for more.

    A bypass is a transaction that wrote recorded tables past the gateway; it is shown with who that was.
    """
    bus = env.bus
    bus.journal.require()
    _refuse_unknown(bus, options["action"], options["touching"])
    show_one = (lambda r: print_json(r.public())) if as_json else _print_line
    where, after, last = _filter(options), options["after"], 0
    for record in _chosen(bus, where, after, options["limit"]):
        show_one(record)
        last = record.position
    try:
        while follow:
            last = max(last, after or 0) or bus.journal.settled()
            for record in bus.journal.read(last, where=where):
                show_one(record)
                last = record.position
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return


def _chosen(bus: Bus, where: JournalFilter, after: int | None, limit: int | None) -> Iterator[Record]:
    if where != JournalFilter(kind=where.kind) or after is not None:
        return bus.journal.read(after or 0, limit, wait=False, where=where)
    return iter(bus.journal.tail(limit or 20, kind=where.kind))


def _refuse_unknown(bus: Bus, action: str | None, touching: str | None) -> None:
    """A mistyped name would find nothing, as if nothing had been done. What history has may be declared no more."""
    if action is not None:
        known = [each.name for each in bus.registry.everyday()]
        if action not in known and bus.registry.find(action) is None and not _any(bus, JournalFilter(action=action)):
            raise click.BadParameter(_unknown("action", action, known), param_hint="--action")
    if touching is not None:
        table = touching.partition(":")[0]
        if not table:
            raise click.BadParameter(f"{touching!r} names no table", param_hint="--touching")
        models = bus.application.models
        tables = [table] if models is None else sorted(models.tables)  # nobody knows which tables there are
        if table not in tables and not _any(bus, JournalFilter(touching=(table,))):
            raise click.BadParameter(_unknown("table", table, tables), param_hint="--touching")


def _any(bus: Bus, where: JournalFilter) -> bool:
    return next(iter(bus.journal.read(0, 1, wait=False, where=where)), None) is not None


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f"there is no {what} {name!r}, nor was there one; there are: {', '.join(known)}"


def _filter(options: Mapping[str, Any]) -> JournalFilter:
    table, _, key = (options["touching"] or "").partition(":")
    return JournalFilter(
        **{name: options[name] for name in ("action", "actor", "status", "since", "until")},
        correlation_id=options["correlation"],
        cause_id=options["cause"],
        touching=((table, *key.split(",")) if key else (table,)) if table else None,
        kind="bypass" if options["bypass"] else None if options["submitted"] else ("outcome", "bypass"),
    )


@click.command()
@click.argument("which", metavar="ACTION_ID|POSITION")
@json_option
@pass_environment
def show(env: Environment, which: str, as_json: bool) -> None:
    """Show one action whole: what was asked, what came of it, the actions that it caused."""
    journal = env.bus.journal
    journal.require()
    action_id = _action_id(env.bus, which)
    records = journal.history(action_id) if action_id else []
    if not records:
        raise fail(f"the journal has no action {which}; `actionbus log` shows the latest", USAGE)
    for record in records:
        if as_json:
            touched = [{"table": each.table, "key": each.key, "operation": each.operation} for each in record.touched]
            print_json(record.public() | {"touched": touched})
        else:
            for told in _whole(record):
                say(*told)


def _action_id(bus: Bus, which: str) -> UUID | None:
    found = position_or_id(which)
    if isinstance(found, UUID):
        return found
    record = bus.journal.at(found)
    return record.action_id if record else None


def _print_line(record: Record) -> None:
    say_short(line_of(record))


def line_of(record: Record) -> Text:
    """A record on one line."""
    status = record.status or record.kind
    return line(
        (f"{record.position:>7} {record.recorded_at:%Y-%m-%d %H:%M:%S} ", "dim"),
        (f"{status:<11} ", COLOURS.get(status, "cyan")),
        f"{record.actor or '-':<8} ",
        (f"{record.action} ", "bold"),
        _gist(record),
    )


def _gist(record: Record) -> str:
    if record.kind == "bypass":
        return _outsider(record.context or {})
    if record.error:
        return str(record.error.get("message", ""))
    # Names and numbers tell a person more than ids do, so the long values come last.
    shown = sorted(record.arguments.items(), key=lambda argument: len(str(argument[1])) > 30)
    told = " ".join(f"{name}={_short(value)}" for name, value in shown if value not in (None, "", [], {}))
    return told + (f" -> {_short(record.result)}" if record.result else "")


def _outsider(context: dict[str, Any]) -> str:
    """Who wrote past the gateway, as far as the database knows."""
    shown = {name: context.get(name) for name in ("user", "role", "application", "client", "baseline")}
    if shown["role"] == shown["user"]:
        del shown["role"]
    return " ".join(f"{name}={_short(value)}" for name, value in shown.items() if value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _whole(record: Record) -> Iterator[Sequence[Part]]:
    """A record, line by line."""
    status = record.status or ""
    moment = f"  position {record.position}, {record.recorded_at.isoformat()}"
    yield (f"{record.kind} ", "bold"), (status, COLOURS.get(status, "cyan")), (moment, "bold")
    for name, value in record.public().items():
        if name not in _SHOWN_APART and value not in (None, {}, []):
            yield (f"  {name:<16}", "dim"), _told(value)
    for change in record.touched:
        key = ", ".join(map(str, change.key.values()))
        columns = f" ({', '.join(change.columns())})" if change.operation == "update" else ""
        yield ("  touched         ", "dim"), f"{change.operation} {change.table} {key}{columns}"
    for call in record.calls or []:
        yield ("  call            ", "dim"), _short_call(call)
    yield ("",)


def _told(value: Any) -> str:
    if isinstance(value, (str, UUID, datetime, int)):
        return str(value)
    return dumps(value)


def _short_call(call: dict[str, Any]) -> str:
    asked = ", ".join(
        [*map(_short, call.get("args", [])), *(f"{k}={_short(v)}" for k, v in call.get("kwargs", {}).items())]
    )
    for how in ("returned", "raised", "opaque", "items", "context"):
        if how in call:
            return f"{call['call']}({asked}) {how} {_short(call[how])}"
    return f"{call['call']}({asked})"
