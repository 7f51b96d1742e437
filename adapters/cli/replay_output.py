"""How the commands of `actionbus replay` show what they found: tables for people, JSON for programs, JUnit for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from actionbus.adapters.cli.common import print_json
from actionbus.adapters.cli.printing import FAILED, SUCCEEDED, Part, counted, say
from actionbus.adapters.junit import Case, junit, summary
from actionbus.adapters.links import NO_LINKS, Links
from actionbus.core.history.decoding import ErasedValue
from actionbus.core.history.decoding import shown as history_shown
from actionbus.core.values import payload, tagged
from actionbus.core.values.limits import Limits
from actionbus.replay import Difference, RowChange, Step
from actionbus.replay.fork import ChangedOutcome, Fork
from actionbus.replay.past.history import Entry
from actionbus.replay.sandbox.rerun import Rerun
from actionbus.replay.verdicts.divergence import shown as shown_value

_LIMITS = Limits(depth=100, digits=4000)
_COLOURS = {
    "same": "green",
    "divergent": "red",
    "concurrent": "yellow",
    "order": "yellow",
    "retired": "yellow",
    "unplayable": "yellow",
}


def json_of(value: Any) -> Any:
    """A value, or a row of them, as JSON has it; what was erased as `actionbus history` has it."""
    if isinstance(value, ErasedValue):
        return history_shown(value)
    try:
        return payload.primitive(value, _LIMITS)
    except ValueError:
        if isinstance(value, Mapping):
            return {name: json_of(each) for name, each in value.items()}
        try:
            return tagged.encode(value)
        except ValueError:
            return repr(value)


def text_of(value: Any, length: int = 100) -> str:
    """A value for a person, on one line."""
    if isinstance(value, ErasedValue):
        return "(erased)"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, (str, UUID)):
        text = str(value)
        return text if len(text) <= length else f"{text[: length - 1]}…"
    return shown_value(json_of(value), length)


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
        "position": step.position,
        "action_id": str(step.record.action_id),
        "action": step.record.action,
        "status": step.record.status,
        "verdict": step.verdict,
        "why": step.why,
        "differences": [difference_document(each) for each in step.differences] if step.verdict != "same" else [],
        "overlapped": [str(each) for each in step.overlapped],
    }


def difference_document(each: Difference) -> dict[str, Any]:
    """One difference as JSON has it."""
    return {"field": each.field, "recorded": each.recorded, "now": each.now, "in": each.action}


def _difference(told: Mapping[str, Any]) -> str:
    """The same for a person."""
    return str(Difference(told["field"], told["recorded"], told["now"], told["in"]))


def change_document(change: RowChange) -> dict[str, Any]:
    """One row change as JSON has it."""
    return {
        "table": change.table,
        "key": json_of(list(change.key)),
        "operation": change.operation,
        "before": json_of(change.before),
        "after": json_of(change.after),
    }


def _change(change: RowChange) -> Sequence[Part]:
    key = ",".join(str(part) for part in change.key)
    colour = {"insert": "green", "delete": "red", "update": "yellow"}[change.operation]
    columns = change.columns() if change.operation == "update" else {}
    told = ", ".join(
        f"{name}: {text_of(before, 40)} → {text_of(after, 40)}" for name, (before, after) in columns.items()
    )
    if change.operation == "insert":
        told = ", ".join(f"{name}: {text_of(value, 40)}" for name, value in (change.after or {}).items())
    return (change.operation, colour), f" {change.table} {key}  {told}"


class Ending:
    """Says at the end of `run` where it parts from history first."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Step | None = None

    def add(self, step: Step) -> None:
        """Count a step, and keep the first that diverges."""
        self._count += 1
        if step.is_divergence and self._first is None:
            self._first = step

    def tell(self) -> None:
        """Say on standard error how many ran, and where they part from history."""
        first = self._first
        where = f"parts from history at {first.position}, {first.record.action}" if first else "as history has it"
        say(f"{counted(self._count, 'action')} run again: {where}", stderr=True)


class Report:
    """What `verify` says, step by step, and the exit code in the end."""

    def __init__(self, form: str, actions: Sequence[str], links: Links = NO_LINKS) -> None:
        self._form, self._links = form, links
        self._actions = actions
        self._counts: Counter[str] = Counter()
        self._cases: list[Case] = []

    def add(self, step: Step) -> None:
        """Take an action's verdict, and tell it if it is not `same`."""
        if self._actions and step.record.action not in self._actions:
            return
        if step.verdict == "same":
            self._counts["same"] += 1
        else:
            self.add_document(step_document(step))

    def add_document(self, told: Mapping[str, Any]) -> None:
        """The same as JSON has it; or what came of a slice of history."""
        if "counts" in told:
            self._counts["same"] += told["counts"].get("same", 0)
            return
        self._counts[told["verdict"]] += 1
        if self._form in ("json", "slice"):
            print_json(told)
        elif self._form == "text":
            self._print(told)
        else:
            differences = [_difference(each) for each in told["differences"]]
            page = self._links.page(told["action_id"])
            case = Case(told["action"], told["position"], told["verdict"], told["why"], differences, page)
            self._cases.append(case)

    def _print(self, told: Mapping[str, Any]) -> None:
        verdict = told["verdict"]
        say((verdict, _COLOURS[verdict]), f" {told['action']} at {told['position']}, action {told['action_id']}")
        if told["why"]:
            say(f"  {told['why']}")
        for each in told["differences"][:20]:
            say(f"  {_difference(each)}")
        if len(told["differences"]) > 20:
            say(f"  and {len(told['differences']) - 20} more")
        if told["overlapped"]:
            say(f"  overlapped with {', '.join(told['overlapped'][:5])}")

    def end(self) -> int:
        """Say how it went; the exit code."""
        if self._form == "junit":
            for line in junit(self._cases, self._counts).split("\n"):
                say(line)
        elif self._form == "slice":
            print_json({"counts": dict(self._counts)})
        else:
            say(summary(self._counts), stderr=True)
        return FAILED if self._counts["divergent"] else SUCCEEDED


def print_fork(fork: Fork, *, as_json: bool) -> None:
    """What a fork changed: outcomes first, then rows."""
    if as_json:
        for each in fork.ended:
            print_json(_ended_document(each))
        for change in fork.rows:
            print_json({"row": change_document(change)})
        print_json(
            {
                "begun_at": fork.begun_at,
                "met_at": fork.met_at,
                "run": fork.run,
                "taken": fork.taken,
                "ended": len(fork.ended),
                "rows": len(fork.rows),
            }
        )
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
    taken = f", {fork.taken} taken as recorded" if fork.taken else ""
    say(
        f"{fork.run} actions run again from {fork.begun_at} on{taken}{met}: {len(fork.ended)} end differently, "
        f"{counted(len(fork.rows), 'row')} {'differs' if len(fork.rows) == 1 else 'differ'} in the end",
        stderr=True,
    )


def _ended_document(each: ChangedOutcome) -> dict[str, Any]:
    return {
        "position": each.position,
        "action": each.action,
        "action_id": str(each.action_id),
        "then": each.then.status if each.then else None,
        "now": each.now.status if each.now else None,
        "differences": [difference_document(difference) for difference in each.differences],
    }


def print_rerun(entry: Entry, rerun: Rerun, differences: Sequence[Difference]) -> None:
    """What came of an action that was debugged."""
    told = "it differs:" if differences else "as history has it"
    say(f"{entry.outcome.action} {rerun.outcome.status}; {told}")
    for difference in differences:
        say(f"  {difference}")
