"""The strip above the timeline: how much happened when, what did not succeed in it, long gaps pressed together."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, Final

from actionbus.adapters.inspector.asking import Asking, Pairs, address

BUCKETS: Final = "96"
_HEIGHT: Final = 32
_LEAST: Final = 2
_LEAST_BARS: Final = 40
"""There is room for so many, lest few be as wide as they are high."""
_GAP: Final = 3
"""So many empty buckets, or more, are one."""
_TIMES: Final = frozenset({"since", "until"})


def strip(asking: Asking, filters: Pairs) -> dict[str, Any] | None:
    """Bars with where each leads; None where there is nothing to show."""
    others = tuple(each for each in filters if each[0] not in _TIMES)
    found = asking.density((*filters, ("buckets", BUCKETS)))
    buckets, is_estimate = found["buckets"], "estimated_from" in found
    most = max((each["records"] for each in buckets), default=0)
    if not buckets or not (most or is_estimate):
        return None
    bars: list[dict[str, Any]] = []
    for is_empty, run in groupby(buckets, key=lambda each: not each["records"]):
        some = list(run)
        if is_empty and len(some) >= _GAP:
            bars.append({"is_gap": True, "since": some[0]["since"], "until": some[-1]["until"]})
            continue
        for each in some:
            then = (("since", each["since"]), ("until", each["until"]))
            bars.append(_bar(each, max(most, 1), address("/", (*others, *then))))
    return {
        "bars": bars,
        "wide": max(len(bars), _LEAST_BARS),
        "height": _HEIGHT,
        "others": address("/", others),
        "is_estimate": is_estimate,
        "estimated_from": found.get("estimated_from"),
        "counted_beyond": found.get("counted_beyond"),
    }


def _bar(bucket: dict[str, Any], most: int, where: str) -> dict[str, Any]:
    """Heights are by the root, so that one failure among thousands of successes is seen."""
    failed = sum(count for status, count in bucket["statuses"].items() if status != "succeeded")
    share = min(1.0, failed / bucket["records"]) if bucket["records"] else 0
    height = _height(bucket["records"], most)
    return {
        "is_gap": False,
        "since": bucket["since"],
        "until": bucket["until"],
        "records": bucket["records"],
        "failed": failed,
        "height": height,
        "bad": max(_LEAST, round(height * math.sqrt(share))) if failed else 0,
        "where": where,
    }


def _height(count: int, most: int) -> int:
    return max(_LEAST, round(_HEIGHT * math.sqrt(count / most))) if count else 0
