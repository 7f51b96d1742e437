"""`actionbus log` and `actionbus show`: the journal, read by people and programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from rich.console import Group
from rich.text import Text

from adapters.cli.common import (
    USAGE,
    Environment,
    MomentType,
    console,
    fail,
    json_option,
    pass_environment,
    print_json,
)
from core import Bus, Record
from core.payload import dumps

STATUSES = ("succeeded", "rejected", "denied", "failed", "interrupted")
COLOURS = {"succeeded": "green", "rejected": "yellow", "denied": "magenta", "failed": "red", "interrupted": "red"}
_POLL_S = 0.3


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
@click.option("-f", "--follow", is_flag=True, help="Go on showing records as they come, until Ctrl-C.")
@json_option
@pass_environment
def log(env: Environment, /, follow: bool, as_json: bool, **options: Any) -> None:
    """Show what was done, oldest first; the last 20 outcomes unless you ask for more."""
    bus = env.bus
    bus.journal.require()
    show_one = (lambda r: print_json(r.public())) if as_json else _print_line
    last = 0
    for record in _chosen(bus, **options):
        show_one(record)
        last = record.position
    try:
        while follow:
            last = max(last, options["after"] or 0) or bus.journal.settled()
            for record in bus.journal.read(last, **_filters(**options)):
                show_one(record)
                last = record.position
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return


def _chosen(bus: Bus, **options: Any) -> Iterator[Record]:
    filters = _filters(**options)
    narrowed = any(value is not None for name, value in filters.items() if name != "kind")
    if narrowed or options["after"] is not None:
        return bus.journal.read(options["after"] or 0, options["limit"], wait=False, **filters)
    return iter(bus.journal.tail(options["limit"] or 20, kind=filters["kind"]))


def _filters(
    *,
    action: str | None,
    actor: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    correlation: str | None,
    cause: UUID | None,
    touching: str | None,
    submitted: bool,
    **_others: Any,
) -> dict[str, Any]:
    table, _, key = (touching or "").partition(":")
    return {
        "action": action,
        "actor": actor,
        "status": status,
        "since": since,
        "until": until,
        "correlation_id": correlation,
        "cause_id": cause,
        "touching": ((table, *key.split(",")) if key else (table,)) if table else None,
        "kind": None if submitted else "outcome",
    }


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
            print_json(record.public())
        else:
            console().print(_whole(record))


def _action_id(bus: Bus, which: str) -> UUID | None:
    if which.isascii() and which.isdigit() and len(which) < 19:
        found = bus.journal.at(int(which))
        return found.action_id if found else None
    try:
        return UUID(which)
    except ValueError:
        raise click.BadParameter(f"{which!r} is neither a position nor an action's id", param_hint="WHICH") from None


def _print_line(record: Record) -> None:
    console().print(line_of(record), overflow="ellipsis", no_wrap=True, crop=True)


def line_of(record: Record) -> Text:
    """A record on one line."""
    status = record.status or "submitted"
    text = Text()
    text.append(f"{record.position:>7} ", style="dim")
    text.append(f"{record.recorded_at:%Y-%m-%d %H:%M:%S} ", style="dim")
    text.append(f"{status:<11} ", style=COLOURS.get(status, "cyan"))
    text.append(f"{plain(record.actor or '-'):<8} ")
    text.append(f"{plain(record.action)} ", style="bold")
    text.append(plain(_gist(record)))
    return text


def _gist(record: Record) -> str:
    if record.error:
        return str(record.error.get("message", ""))
    # Names and numbers tell a person more than ids do, so the long values come last.
    shown = sorted(record.arguments.items(), key=lambda argument: len(str(argument[1])) > 30)
    told = " ".join(f"{name}={_short(value)}" for name, value in shown if value not in (None, "", [], {}))
    return told + (f" -> {_short(record.result)}" if record.result else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def plain(text: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)


def _whole(record: Record) -> Group:
    head = Text(f"{record.kind} ", style="bold")
    head.append(record.status or "", style=COLOURS.get(record.status or "", "cyan"))
    head.append(f"  position {record.position}, {record.recorded_at.isoformat()}")
    lines: list[Any] = [head]
    hidden = {"position", "kind", "status", "recorded_at", "touched", "calls", "format"}
    for name, value in record.public().items():
        if name not in hidden and value not in (None, {}, []):
            shown = (
                value
                if isinstance(value, str)
                else str(value)
                if isinstance(value, (UUID, datetime, int))
                else dumps(value)
            )
            lines.append(Text(f"  {name:<16}", style="dim").append(plain(shown), style="default"))
    for row in (record.touched or {}).get("rows", []):
        key = ", ".join(map(str, row["key"]))
        columns = f" ({', '.join(row['columns'])})" if row.get("columns") else ""
        lines.append(
            Text("  touched         ", style="dim").append(
                plain(f"{row['op']} {row['table']} {key}{columns}"), style="default"
            )
        )
    for why in (record.touched or {}).get("incomplete", []):
        lines.append(Text("  incomplete      ", style="dim").append(plain(why), style="yellow"))
    for call in record.calls or []:
        lines.append(Text("  call            ", style="dim").append(plain(_short_call(call)), style="default"))
    return Group(*lines, Text(""))


def _short_call(call: dict[str, Any]) -> str:
    asked = ", ".join(
        [*map(_short, call.get("args", [])), *(f"{k}={_short(v)}" for k, v in call.get("kwargs", {}).items())]
    )
    for how in ("returned", "raised", "opaque", "items", "context"):
        if how in call:
            return f"{call['call']}({asked}) {how} {_short(call[how])}"
    return f"{call['call']}({asked})"
