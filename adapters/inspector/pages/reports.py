"""What came of a job, for people: what was recorded and what is now, side by side; as a page, and as a text to be sent.

Used by the pages of jobs. Of what a command printed as JSON each document tells by its names what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from actionbus.adapters.inspector.pages.changes import change_told, text_of_key
from actionbus.adapters.inspector.pages.tables import difference_told
from actionbus.adapters.inspector.values import brief, seen
from actionbus.adapters.junit import Case, counts_of, junit

MOST: Final = 200
"""Documents that a page shows."""
Document = Mapping[str, Any]


def report_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a page shows of a job's answer."""
    answer = job["answer"][:MOST]
    rows = [_row(each["row"]) for each in answer if "row" in each]
    preview = next((each for each in answer if "preview" in each), None)
    if preview is not None:
        rows = [change_told({**each, "columns": _changed(each)}) for each in preview["changes"]]
    return {
        "steps": [_step(each) for each in answer if "differences" in each],
        "rows": rows,
        "preview": preview,
        "lines": next((each for each in answer if "begun_at" in each), None),
        "documents": [each for each in answer if "document" in each],
        "found": next((each for each in answer if "bypass" in each), None),
        "outcome": next(
            (each for each in answer if "status" in each and "preview" not in each and "differences" not in each), None
        ),
        "has_more": len(job["answer"]) > MOST,
    }


def _step(told: Document) -> dict[str, Any]:
    """An action on both lines: how it ended there, and what differs."""
    if "verdict" in told:
        ends = "not run" if told["verdict"] in ("retired", "unplayable") else told["status"]
        return {**told, "then": told["status"], "ends": ends}
    return {
        **told,
        "verdict": None,
        "why": None,
        "ends": told["now"] or "left out",
        "then": told["then"] or "was not there",
    }


def _row(change: Document) -> dict[str, Any]:
    """A row that differs at the end of the lines."""
    before, after = change["before"], change["after"]
    names = list(before or after or {})
    key = dict(zip(names, change["key"], strict=False))  # its columns' names are not told, and not shown
    return difference_told({"table": change["table"], "key": key, "before": before, "after": after})


def _changed(change: Document) -> list[str]:
    before, after = change["before"] or {}, change["after"] or {}
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def junit_of(job: Mapping[str, Any], page_of: Callable[[str], str]) -> str | None:
    """The same of a verify as JUnit XML; None for other jobs, and for one that did not come to its end."""
    counts = counts_of(job["lines"]) if job["kind"] == "verify" and job["is_whole"] else None
    if counts is None:
        return None
    cases = []
    for each in job["answer"]:
        differences = [_difference(one) for one in each["differences"]]
        cases.append(
            Case(
                each["action"], each["position"], each["verdict"], each["why"], differences, page_of(each["action_id"])
            )
        )
    return junit(cases, counts)


def _difference(one: Document) -> str:
    nested = f" (in {seen(one['in'])})" if one["in"] else ""
    return f"{seen(one['field'])}{nested}: recorded {brief(one['recorded'])}, now {brief(one['now'])}"


def text_of(job: Mapping[str, Any], printed: str) -> str:
    """A report to be sent to somebody: the command, how it ended, and what it found."""
    return "\n".join([f"$ {job['command']}", f"begun {job['began']}, {job['state']}", "", *_lines(job, printed)]) + "\n"


def _lines(job: Mapping[str, Any], printed: str) -> Iterator[str]:
    told = report_of({**job, "answer": job["answer"]})
    for each in told["steps"]:
        verdict = f"{each['verdict']}: " if each["verdict"] else ""
        yield f"{verdict}{seen(each['action'])} at {each['position']}, {each['then']} -> {each['ends']}"
        for one in each["differences"]:
            yield f"    {_difference(one)}"
    for each in told["rows"]:
        yield f"{each['operation']} {seen(each['table'])} {text_of_key(each['key'])}"
        for column in each["columns"]:
            if column["changed"]:
                yield f"    {seen(column['name'])}: {brief(column['before'])} -> {brief(column['after'])}"
    if not told["steps"] and not told["rows"]:
        yield printed.rstrip("\n")
        return
    yield from map(seen, job["lines"])
    if (lines := told["lines"]) is not None:
        met = f"they meet at {lines['met_at']}" if lines["met_at"] is not None else "they do not meet"
        yield f"{lines['run']} actions run again; the lines part at {lines['begun_at']}; {met}"
    if told["has_more"] or not job["is_whole"]:
        yield f"... only the first {MOST} findings are told here; the command has all"
