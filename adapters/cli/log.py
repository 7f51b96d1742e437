"""`actionbus log` and `actionbus show`: the journal, read by people and programs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import click
from rich.text import Text

from actionbus import core
from actionbus.adapters.cli.common import (
    Environment,
    MomentType,
    json_option,
    pass_environment,
    position_or_id,
    print_json,
)
from actionbus.adapters.cli.graph import branches
from actionbus.adapters.cli.mistyped import refuse_unknown_action, refuse_unknown_table
from actionbus.adapters.cli.paging import page
from actionbus.adapters.cli.printing import USAGE, Part, fail, line, say, say_short
from actionbus.core import Journal, JournalFilter, Record, RecordedCall
from actionbus.core.browsing.causes import records_of
from actionbus.core.browsing.pages import newest
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
@click.option("--touching", metavar="TABLE[:KEY]", help="Only outcomes that wrote to this table or row; * for any.")
@click.option("--after", type=int, default=None, metavar="POSITION", help="Only records beyond this position.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    default=None,
    help="The last so many, or with --after the first; 20 unless filters are given.",
)
@click.option("--submitted", is_flag=True, help="Show submitted records too, not outcomes alone.")
@click.option("--bypass", is_flag=True, help="Only what was written past the gateway.")
@click.option("--oneline", is_flag=True, help="Only position, status, action, actor and id.")
@click.option("--graph", is_flag=True, help="Draw actions below what caused them.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing records as they come, until Ctrl-C.")
@json_option
@pass_environment
def log(env: Environment, /, follow: bool, as_json: bool, oneline: bool, graph: bool, **options: Any) -> None:
    """Show what was done, oldest first; the last 20 outcomes unless you ask for more.

    A bypass is a transaction that wrote recorded tables past the gateway; it is shown with who that was.
    """
    if graph and (follow or as_json):
        raise click.UsageError("--graph draws what is there, for people: it goes with neither --follow nor --json")
    journal = _journal(env, with_rows=options["touching"] is not None)
    if options["action"] is not None:
        refuse_unknown_action(env, journal, options["action"])
    if options["touching"] is not None:
        refuse_unknown_table(env, journal, options["touching"])
    line_for = short_line_of if oneline else line_of

    def show_one(record: Record) -> None:
        if as_json:
            print_json(record.public())
        else:
            say_short(line_for(record))

    where, after, last, shown = _filter(options), options["after"], 0, 0
    found = _chosen(journal, where, after, options["limit"])
    begun = None if after else journal.begins.archive()
    page(unless=follow or as_json)
    if graph:
        for drawn, record in branches(list(found)):
            say_short(line_for(record, drawn))
        return
    for record in found:
        show_one(record)
        last, shown = record.position, shown + 1
    if begun is not None and shown < (options["limit"] or 20):
        say(("note:", "yellow"), f" {begun.where()}", stderr=True)
    try:
        while follow:
            last = max(last, after or 0) or journal.settled()
            for record in journal.read(last, where=where):
                show_one(record)
                last = record.position
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return


def _chosen(journal: Journal, where: JournalFilter, after: int | None, limit: int | None) -> Iterator[Record]:
    is_narrowed = where != JournalFilter(kind=where.kind)
    if after is not None or (is_narrowed and limit is None):
        return journal.read(after or 0, limit, wait=False, where=where)
    return iter(newest(journal, where, most=limit or 20))


def _journal(env: Environment, *, with_rows: bool) -> Journal:
    """Without the application, which may not be there, or not import: what is recorded is told with any code."""
    journal = core.History(env.backend).journal if with_rows else Journal(env.backend)
    journal.require()
    return journal


def _filter(options: Mapping[str, Any]) -> JournalFilter:
    table, _, key = (options["touching"] or "").partition(":")
    return JournalFilter(
        **{name: options[name] for name in ("action", "actor", "status", "since", "until")},
        correlation_id=options["correlation"],
        cause_id=options["cause"],
        touching=((table, key) if key else (table,)) if table else None,
        kind="bypass" if options["bypass"] else None if options["submitted"] else ("outcome", "bypass"),
    )


@click.command()
@click.argument("which", metavar="ACTION_ID|POSITION")
@json_option
@pass_environment
def show(env: Environment, which: str, as_json: bool) -> None:
    """Show one action whole: what was asked, what came of it, the actions that it caused."""
    journal = _journal(env, with_rows=True)
    action_id = _action_id(journal, which)
    if action_id is None or journal.get(action_id) is None:
        begun = journal.begins.archive()
        where = f"; {begun.where()}" if begun else ""
        raise fail(f"the journal has no action {which}; `actionbus log` shows the latest{where}", USAGE)
    records, has_more = records_of(journal, action_id)
    if has_more:
        more = f" it caused more than is shown; `actionbus log --cause {action_id}` lists what it did itself"
        say(("note:", "yellow"), more, stderr=True)
    page(unless=as_json)
    for record in records:
        if as_json:
            touched = [{"table": each.table, "key": each.key, "operation": each.operation} for each in record.touched]
            print_json(record.public() | {"touched": touched})
        else:
            for told in _whole(record):
                say(*told)


def _action_id(journal: Journal, which: str) -> UUID | None:
    found = position_or_id(which)
    if isinstance(found, UUID):
        return found
    record = journal.at(found)
    return record.action_id if record else None


def line_of(record: Record, drawn: str = "") -> Text:
    """A record on one line; `drawn` is before its action."""
    status = record.status or record.kind
    return line(
        (f"{record.position:>7} {record.recorded_at:%Y-%m-%d %H:%M:%S} ", "dim"),
        (f"{status:<11} ", COLOURS.get(status, "cyan")),
        f"{record.actor or '-':<8} ",
        (drawn, "dim"),
        (f"{record.action} ", "bold"),
        _gist(record),
    )


def short_line_of(record: Record, drawn: str = "") -> Text:
    """A record by what names it."""
    status = record.status or record.kind
    return line(
        (f"{record.position:>7} ", "dim"),
        (f"{status:<11} ", COLOURS.get(status, "cyan")),
        (f"{record.action_id} ", "dim"),
        (drawn, "dim"),
        (f"{record.action} ", "bold"),
        record.actor or "-",
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


_ENDS = ("returned", "raised", "opaque", "items")


def _short_call(call: RecordedCall) -> str:
    asked = ", ".join(
        [*map(_short, call.get("args", [])), *(f"{k}={_short(v)}" for k, v in call.get("kwargs", {}).items())]
    )
    ends: dict[str, Any] = {how: each for how, each in call.items() if how in _ENDS}
    for how, each in ends.items():
        return f"{call['call']}({asked}) {how} {_short(each)}"
    return f"{call['call']}({asked})"
