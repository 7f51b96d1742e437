"""How the commands of `actionbus replay` show what they found: tables for people, JSON for programs, JUnit for CI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

from actionbus.adapters.cli.common import FAILED, SUCCEEDED, USAGE, Part, console, fail, print_json, print_table, say
from actionbus.core import Application, Record
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits
from actionbus.projections.projection import Projection
from actionbus.projections.store import IndexInfo, Store, Write
from actionbus.replay import Difference, RowChange, Snapshot, Step
from actionbus.replay.bisect import Found
from actionbus.replay.divergence import shown as shown_value
from actionbus.replay.fork import Ended, Fork
from actionbus.replay.history import Entry
from actionbus.replay.sandbox import Rerun
from actionbus.replay.timeline import Blame

_NOT_XML = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")
_LIMITS = Limits(depth=100, digits=4000)
_COLOURS = {"same": "green", "divergent": "red", "concurrent": "yellow", "unplayable": "yellow"}


def plain(value: Any) -> Any:
    """A value, or a row of them, as JSON has it."""
    try:
        return payload.primitive(value, _LIMITS)
    except ValueError:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        try:
            return tagged.encode(value)
        except ValueError:
            return repr(value)


def shown(value: Any, length: int = 100) -> str:
    """A value for a person, on one line."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, (str, UUID)):
        text = str(value)
        return text if len(text) <= length else f"{text[: length - 1]}…"
    return shown_value(plain(value), length)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, as_json: bool = False) -> None:
    """Rows of a table."""
    if as_json:
        for row in rows:
            print_json({name: plain(value) for name, value in zip(columns, row, strict=True)})
        return
    print_table(columns, [[shown(value, 60) for value in row] for row in rows])


def print_step(step: Step, with_changes: bool) -> None:
    """One action, what differs below it."""
    record, colour = step.record, _COLOURS[step.verdict]
    moment = record.recorded_at.strftime("%Y-%m-%d %H:%M:%S")
    told = f"  {record.status}  {record.action}  {record.action_id}"
    say(f"{step.position:>8}  {moment}  ", (f"{step.verdict:<10}", colour), told)
    if step.why:
        say(f"          {step.why}")
    for difference in step.differences if step.verdict != "same" else ():
        say(f"          {difference}")
    if with_changes:
        for change in step.changes:
            say("          ", *_change(change))


def print_step_json(step: Step, with_changes: bool) -> None:
    """One action as a document."""
    print_json(step_document(step) | {"changes": [change_document(each) for each in step.changes]})


def step_document(step: Step) -> dict[str, Any]:
    """One action as JSON has it."""
    return {
        "position": step.position, "action_id": str(step.record.action_id), "action": step.record.action,
        "status": step.record.status, "verdict": step.verdict, "why": step.why,
        "differences": [difference_document(each) for each in step.differences] if step.verdict != "same" else [],
        "follows": str(step.follows) if step.follows else None, "overlapped": [str(each) for each in step.overlapped],
    }  # fmt: skip


def difference_document(each: Difference) -> dict[str, Any]:
    """One difference as JSON has it."""
    return {"field": each.field, "expected": each.expected, "actual": each.actual, "in": each.action}


def change_document(change: RowChange) -> dict[str, Any]:
    """One row change as JSON has it."""
    return {
        "table": change.table, "key": plain(list(change.key)), "operation": change.operation,
        "before": plain(change.before), "after": plain(change.after),
    }  # fmt: skip


def _change(change: RowChange) -> Sequence[Part]:
    key = ",".join(str(part) for part in change.key)
    colour = {"insert": "green", "delete": "red", "update": "yellow"}[change.operation]
    columns = change.columns() if change.operation == "update" else {}
    told = ", ".join(f"{name}: {shown(before, 40)} → {shown(after, 40)}" for name, (before, after) in columns.items())
    if change.operation == "insert":
        told = ", ".join(f"{name}: {shown(value, 40)}" for name, value in (change.after or {}).items())
    return (change.operation, colour), f" {change.table} {key}  {told}"


def print_changes(changes: Sequence[RowChange], *, as_json: bool) -> None:
    """Row changes, one per line."""
    for change in changes:
        if as_json:
            print_json(change_document(change))
        else:
            say(*_change(change))
    if not as_json:
        say(f"{len(changes)} rows differ", stderr=True)


class Report:
    """What `verify` says, step by step, and the exit code in the end."""

    def __init__(self, form: str, actions: Sequence[str]) -> None:
        self._form = form
        self._actions = actions
        self._counts: Counter[str] = Counter()
        self._cases: list[Step] = []
        self._outside: list[tuple[Snapshot, list[RowChange]]] = []
        self._roots = 0

    def add(self, step: Step) -> None:
        """Take an action's verdict, and tell it if it is not `same`."""
        if self._actions and step.record.action not in self._actions:
            return
        self._counts[step.verdict] += 1
        self._roots += step.verdict == "divergent" and step.follows is None
        if step.verdict == "same":
            return
        if self._form == "json":
            print_json(step_document(step))
        elif self._form == "text":
            self._print(step)
        else:
            self._cases.append(step)

    def _print(self, step: Step) -> None:
        record, colour = step.record, _COLOURS[step.verdict]
        follows = f", follows from {step.follows}" if step.follows else ""
        say((step.verdict, colour), f" {record.action} at {step.position}, action {record.action_id}{follows}")
        if step.why:
            say(f"  {step.why}")
        for each in step.differences[:20]:
            where = f"{each.action}: " if each.action else ""
            say(f"  {where}{each.field}")
            say(f"    expected  {shown_value(each.expected, 200)}")
            say(f"    actual    {shown_value(each.actual, 200)}")
        if len(step.differences) > 20:
            say(f"  and {len(step.differences) - 20} more")
        if step.overlapped:
            say(f"  overlapped with {', '.join(str(each) for each in step.overlapped[:5])}")

    def add_snapshot(self, snapshot: Snapshot, changes: list[RowChange]) -> None:
        """Take what differs from a snapshot: rows written outside the gateway, unless actions diverged before."""
        self._counts["snapshots"] += 1
        self._outside.append((snapshot, changes))
        if self._form == "json":
            print_json({"snapshot": snapshot.path, "position": snapshot.position,
                        "rows": [change_document(each) for each in changes]})  # fmt: skip
        elif self._form == "text" and changes:
            where = f" from the snapshot at {snapshot.position}, {snapshot.path}"
            say(("rows differ", "red"), f"{where}: they were written outside the gateway, or by what diverged")
            for change in changes[:20]:
                say("  ", *_change(change))

    def end(self) -> int:
        """Say how it went; the exit code."""
        differing = sum(len(changes) for _, changes in self._outside)
        failed = self._counts["divergent"] > 0 or differing > 0
        if self._form == "junit":
            for line in self._junit().split("\n"):
                say(line)
        else:
            actions = sum(self._counts.values()) - self._counts["snapshots"]
            told = [f"{self._counts[name]} {name}" for name in ("same", "divergent", "concurrent", "unplayable")]
            rows = f", {differing} rows differ from {self._counts['snapshots']} snapshots" if self._outside else ""
            following = self._counts["divergent"] - self._roots
            first = f"; {following} of the divergent ones follow from earlier ones" if following else ""
            say(f"{actions} actions: {', '.join(told)}{first}{rows}", stderr=True)
        return FAILED if failed else SUCCEEDED

    def _junit(self) -> str:
        total = sum(self._counts.values())
        suite = ElementTree.Element(
            "testsuite", name="actionbus replay verify", tests=str(total),
            failures=str(self._counts["divergent"] + sum(bool(rows) for _, rows in self._outside)), errors="0",
            skipped=str(self._counts["concurrent"] + self._counts["unplayable"]),
        )  # fmt: skip
        for step in self._cases:
            name = f"{step.record.action} at {step.position}"
            case = ElementTree.SubElement(suite, "testcase", classname=step.record.action, name=name)
            text = "\n".join(str(each) for each in step.differences)
            kind = "failure" if step.verdict == "divergent" else "skipped"
            told = ElementTree.SubElement(case, kind, message=_xml(step.why or step.verdict))
            told.text = _xml(text)
        for snapshot, changes in self._outside:
            case = ElementTree.SubElement(suite, "testcase", classname="snapshot", name=str(snapshot.position))
            if changes:
                ElementTree.SubElement(case, "failure", message=f"{len(changes)} rows differ")
        document: bytes = ElementTree.tostring(suite, encoding="us-ascii", xml_declaration=True)
        return document.decode()


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("�", text)


def history(versions: Sequence[tuple[RowChange, Record]], column: str | None) -> list[Blame]:
    """Every change of every column, oldest first."""
    return [
        Blame(name, after, before, record)
        for change, record in versions
        for name, (before, after) in change.columns().items()
        if column in (None, name)
    ]


def print_blame(found: Sequence[Blame], *, as_json: bool) -> None:
    """Who wrote what."""
    if as_json:
        for each in found:
            print_json({
                "column": each.column, "value": plain(each.value), "before": plain(each.before),
                "action": each.record.action, "action_id": str(each.record.action_id),
                "position": each.record.position, "actor": each.record.actor, "recorded_at": each.record.recorded_at,
            })  # fmt: skip
        return
    room = max(10, min(60, console().width - 70))
    print_table(
        ["column", "value", "position", "action", "actor", "time"],
        [[each.column, shown(each.value, room), str(each.record.position), each.record.action, each.record.actor or "",
          each.record.recorded_at.strftime("%Y-%m-%d %H:%M:%S")] for each in found],
        whole=("column", "position", "action"),
    )  # fmt: skip


def print_found(found: Found, record: Record | None, changes: Sequence[RowChange], *, as_json: bool) -> None:
    """What a bisection found."""
    if as_json:
        print_json({
            "position": found.position, "action": record.action if record else None,
            "action_id": str(record.action_id) if record else None, "before": found.before, "checks": found.checks,
            "actions": found.actions, "note": found.note, "changes": [change_document(each) for each in changes],
        })  # fmt: skip
        return
    if record is not None:
        actor = f" by {record.actor}" if record.actor else ""
        moment = record.recorded_at.strftime("%Y-%m-%d %H:%M:%S")
        say((record.action, "bold"), f" at {found.position}{actor}, {moment}, action {record.action_id}")
        say(f"  arguments {shown(record.arguments, 200)}")
        for change in changes:
            say("  ", *_change(change))
    if found.note:
        say(found.note)
    say(f"{found.checks} checks over {found.actions} actions", stderr=True)


def print_fork(fork: Fork, *, as_json: bool) -> None:
    """What would be different."""
    if as_json:
        for each in fork.ended:
            print_json(_ended_document(each))
        for change in fork.rows:
            print_json({"row": change_document(change)})
        print_json({"begun_at": fork.begun_at, "met_at": fork.met_at, "run": fork.run, "ended": len(fork.ended),
                    "rows": len(fork.rows)})  # fmt: skip
        return
    for each in fork.ended:
        then = each.then.status if each.then else "was not there"
        now = str(each.now.status) if each.now else "left out"
        say(f"{each.position:>8}  {each.action}  {then} → ", (now, "bold"), f"  {each.action_id}")
        for difference in each.differences[:5]:
            say(f"          {difference}")
    for change in fork.rows:
        say(*_change(change))
    met = f"; the lines meet at {fork.met_at}" if fork.met_at is not None else ""
    say(
        f"{fork.run} actions run again from {fork.begun_at} on{met}: {len(fork.ended)} end differently, "
        f"{len(fork.rows)} rows differ in the end",
        stderr=True,
    )


def _ended_document(each: Ended) -> dict[str, Any]:
    return {
        "position": each.position, "action": each.action, "action_id": str(each.action_id),
        "then": each.then.status if each.then else None, "now": each.now.status if each.now else None,
        "differences": [difference_document(difference) for difference in each.differences],
    }  # fmt: skip


def print_rerun(entry: Entry, rerun: Rerun, differences: Sequence[Difference]) -> None:
    """What came of an action that was debugged."""
    told = "it differs:" if differences else "as history has it"
    say(f"{entry.outcome.action} {rerun.outcome.status}; {told}")
    for difference in differences:
        say(f"  {difference}")


def projection_of(application: Application, name: str) -> type[Projection]:
    """A projection by its name."""
    for each in application.projections:
        if each.name == name and isinstance(each, type) and issubclass(each, Projection):
            return each
    known = ", ".join(each.name for each in application.projections) or "none"
    raise fail(f"there is no projection {name!r}; there are: {known}", USAGE)


def write_documents(
    store: Store, projection: type[Projection], index: str, documents: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write documents into a new index of their own, which no projector knows."""
    info = IndexInfo(index, projection.name, projection.version, "replayed")
    store.create_index(info, projection.mappings, projection.settings, loading=True)
    store.write_many(index, [Write(key, 1, payload.dumps(document).encode()) for key, document in documents.items()])
    store.finish_loading(index, projection.settings)
