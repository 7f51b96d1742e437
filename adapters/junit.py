"""What a verify found as JUnit XML: a case for each action that is not as recorded. Used by CLI and inspector."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from xml.etree import ElementTree

VERDICTS: Final = ("same", "divergent", "concurrent", "order", "retired", "unplayable")
_NOT_XML: Final = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")
_SUMMARY: Final = re.compile(rf"[\d,]+ actions?: ((?:\d+ (?:{'|'.join(VERDICTS)})(?:, |$))+)")


class Case(NamedTuple):
    """An action that did not come out as recorded."""

    action: str
    position: int
    verdict: str
    why: str | None
    differences: Sequence[str]
    page: str | None = None
    """Where it can be looked at."""


def summary(counts: Mapping[str, int]) -> str:
    """How many came out how, for a person."""
    total = sum(counts.values())
    told = ", ".join(f"{counts.get(name, 0)} {name}" for name in VERDICTS)
    return f"{total} action{'' if total == 1 else 's'}: {told}"


def counts_of(lines: Iterable[str]) -> Counter[str] | None:
    """What a summary among some lines says; None where there is none."""
    for line in lines:
        if found := _SUMMARY.fullmatch(line.strip()):
            parts = (part.split(" ") for part in found[1].split(", "))
            return Counter({verdict: int(number) for number, verdict in parts})
    return None


def junit(cases: Iterable[Case], counts: Mapping[str, int]) -> str:
    """The report. Only `divergent` is a failure; what is explained, or cannot be run again, is skipped."""
    total = sum(counts.values())
    suite = ElementTree.Element(
        "testsuite",
        name="actionbus replay verify",
        tests=str(total),
        failures=str(counts.get("divergent", 0)),
        errors="0",
        skipped=str(total - counts.get("same", 0) - counts.get("divergent", 0)),
    )
    for each in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_xml(each.action), name=_xml(f"{each.action} at {each.position}")
        )
        kind = "failure" if each.verdict == "divergent" else "skipped"
        told = ElementTree.SubElement(case, kind, message=_xml(each.why or each.verdict))
        told.text = _xml("\n".join([*each.differences, *([each.page] if each.page else [])]))
    document: bytes = ElementTree.tostring(suite, encoding="us-ascii", xml_declaration=True)
    return document.decode()


def _xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("�", text)
